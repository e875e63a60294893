"""The tiles that a model was trained on: `training_data.json` of a model directory, by which an evaluation recognises
tiles that training never saw."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from restore_dit.data.store.manifest import tile_object
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError


@dataclass(frozen=True)
class TrainingData:
    """The store's fingerprint and the tiles that training or validation read, with the checksums of their files. The
    checksums also identify the tiles in a copy of the store at another address, or in a store that has grown."""

    store_fingerprint: str
    tiles: Mapping[str, str]

    @classmethod
    def of(cls, store: TileStore, tile_ids: Iterable[str]) -> TrainingData:
        """The given tiles of a store."""
        return cls(store.fingerprint, {tile_id: _checksum(store, tile_id) for tile_id in sorted(tile_ids)})

    def after(self, earlier: TrainingData | None) -> TrainingData:
        """A copy that also contains the tiles seen by the model from which the run was initialised."""
        return self if earlier is None else TrainingData(self.store_fingerprint, {**earlier.tiles, **self.tiles})

    def seen(self, store: TileStore, tile_ids: Sequence[str]) -> list[str]:
        """The tiles of a store that training has seen: by id (it may be a longer series of the same place) or by
        content."""
        known = set(self.tiles.values())
        return [tile_id for tile_id in tile_ids if tile_id in self.tiles or _checksum(store, tile_id) in known]

    def to_json(self) -> bytes:
        """The content of `training_data.json`."""
        return json.dumps(asdict(self), indent=2).encode()

    @classmethod
    def from_json(cls, content: bytes, origin: str) -> TrainingData:
        """Parses the output of `to_json`; `origin` is what messages call the file.

        Raises:
            UserError: the content is invalid.
        """
        try:
            fields = json.loads(content)
            tiles = {str(tile_id): str(found) for tile_id, found in fields["tiles"].items()}
            return cls(str(fields["store_fingerprint"]), tiles)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{origin}: not a list of training data ({error!r}); copy the model again") from None


def _checksum(store: TileStore, tile_id: str) -> str:
    return store.manifest.tiles[tile_id].objects[tile_object(tile_id)].checksum

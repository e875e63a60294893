"""What a model has seen of which store: `training_data.json` of a model directory, by which an evaluation on places
that training never saw knows them from others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from restore_dit.data.store.manifest import tile_object
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError


@dataclass(frozen=True)
class TrainingData:
    """The store's fingerprint, and the tiles that training or validation read, with the checksum of each one's file: a
    copy of the store at another address, or a store that grew, holds the same files."""

    store_fingerprint: str
    tiles: Mapping[str, str]

    @classmethod
    def of(cls, store: TileStore, tile_ids: Iterable[str]) -> TrainingData:
        """The given tiles of a store."""
        return cls(store.fingerprint, {tile_id: _checksum(store, tile_id) for tile_id in sorted(tile_ids)})

    def after(self, earlier: TrainingData | None) -> TrainingData:
        """This with the tiles that the model that the run began with had seen."""
        return self if earlier is None else TrainingData(self.store_fingerprint, {**earlier.tiles, **self.tiles})

    def seen(self, store: TileStore, tile_ids: Sequence[str]) -> list[str]:
        """Those of a store's tiles that are here, too, by name (a longer series of the same place) or by content."""
        known = set(self.tiles.values())
        return [tile_id for tile_id in tile_ids if tile_id in self.tiles or _checksum(store, tile_id) in known]

    def to_json(self) -> bytes:
        """The content of `training_data.json`."""
        return json.dumps(asdict(self), indent=2).encode()

    @classmethod
    def from_json(cls, content: bytes, origin: str) -> TrainingData:
        """What `to_json` wrote; `origin` names the file in errors.

        Raises:
            UserError: another content.
        """
        try:
            fields = json.loads(content)
            tiles = {str(tile_id): str(found) for tile_id, found in fields["tiles"].items()}
            return cls(str(fields["store_fingerprint"]), tiles)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{origin}: not a list of training data ({error!r}); copy the model again") from None


def _checksum(store: TileStore, tile_id: str) -> str:
    return store.manifest.tiles[tile_id].objects[tile_object(tile_id)].checksum

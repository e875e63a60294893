"""Cloud masks for the tiles of a store: each tile's once, committed every so often, beside whatever masks there are."""

from __future__ import annotations

from collections.abc import Iterable

from restore_dit.data import storage
from restore_dit.data.store.manifest import (
    MANIFEST_NAME,
    Manifest,
    ObjectRecord,
    layer_object,
    read_manifest,
)
from restore_dit.data.store.masks import MaskOrigin, MaskRecord
from restore_dit.data.store.tile_store import TileStore
from restore_dit.data.store.tile_writing import read_masks
from restore_dit.errors import UserError


class MaskWriter:
    """Gives tiles masks of one origin and puts them in use. Readers of an earlier generation are not disturbed: masks
    of another origin stay where they are.

        writer = MaskWriter(store, origin)
        for tile_id in writer.todo(store.tile_ids):
            masks, file = write_masks(store.location, series, clouds, origin, store.record(tile_id))
            writer.adopt(tile_id, masks, file)
        writer.commit()
    """

    def __init__(self, store: TileStore, origin: MaskOrigin) -> None:
        self.store = store
        self.origin = origin
        self._found: dict[str, tuple[MaskRecord, ObjectRecord]] = {}
        """Masks that are there and not yet in use."""
        if store.location.is_local:
            storage.delete_abandoned_writes(store.location.join(f"layers/{origin.layer}"))

    def todo(self, tile_ids: Iterable[str]) -> list[str]:
        """Of these tiles those that lack masks of this origin. What a killed run wrote and did not commit is taken up;
        a file that is damaged, or made from another tile of this name, is to be written again.

        Raises:
            UserError: no such tile, or a storage failure.
        """
        layer = self.origin.layer
        left = {
            name.removesuffix(".parquet") for name in storage.list_names(self.store.location.join(f"layers/{layer}"))
        }
        lacking = []
        for tile_id in tile_ids:
            record = self.store.record(tile_id)
            path = layer_object(layer, tile_id)
            if layer in record.masks:
                if record.masks_in_use != layer:
                    self._found[tile_id] = record.masks[layer], record.objects[path]
            elif tile_id in left and (found := read_masks(self.store.location, tile_id, self.origin, record)):
                self._found[tile_id] = found
            else:
                lacking.append(tile_id)
        return lacking

    @property
    def uncommitted(self) -> int:
        """Tiles whose masks the next commit puts in use."""
        return len(self._found)

    def adopt(self, tile_id: str, masks: MaskRecord, file: ObjectRecord) -> None:
        """Take over masks that `write_masks` wrote, here or in another process."""
        self._found[tile_id] = masks, file

    def commit(self) -> Manifest:
        """Put everything found so far in use: the store's next generation. What others committed meanwhile stays.

        Raises:
            UserError: the manifest is gone, or a storage failure.
        """
        location = self.store.location.join(MANIFEST_NAME)
        while True:
            content, version = storage.read_versioned(location)
            if content is None:
                raise UserError(f"{location.uri}: gone while masks were made; ingest again, then run this again")
            manifest = read_manifest(content, location.uri)
            tiles = dict(manifest.tiles)
            for tile_id, (masks, file) in self._found.items():
                if tile_id in tiles:  # else somebody removed it
                    tiles[tile_id] = tiles[tile_id].with_masks(tile_id, masks, file)
            if tiles == manifest.tiles:
                self._found.clear()
                return manifest
            following = manifest.model_copy(update={"tiles": tiles, "generation": manifest.generation + 1})
            if storage.write_if_version(location, following.to_json(), version):
                self._found.clear()
                return following

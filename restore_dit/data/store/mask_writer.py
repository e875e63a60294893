"""Adds cloud masks to the tiles of a store, once per tile, with regular commits, next to existing masks."""

from __future__ import annotations

from collections.abc import Iterable

from restore_dit.data import storage
from restore_dit.data.items import Writer
from restore_dit.data.store.manifest import Manifest, ManifestFile, layer_object
from restore_dit.data.store.masks import MaskOrigin
from restore_dit.data.store.tile_store import TileStore
from restore_dit.data.store.tile_writing import WrittenMasks, read_masks
from restore_dit.errors import UserError


class MaskWriter(Writer[WrittenMasks]):
    """Adds masks of one origin to tiles and puts them in use. Readers of an earlier generation are unaffected, since
    masks of other origins stay in place.

        writer = MaskWriter(store, origin)
        for tile_id in writer.todo(store.tile_ids):
            writer.adopt(tile_id, write_masks(store.location, series, clouds, origin, store.record(tile_id)))
        writer.commit()
    """

    def __init__(self, store: TileStore, origin: MaskOrigin) -> None:
        self.store = store
        self.origin = origin
        self._manifest = ManifestFile(store.location)
        self._found: dict[str, WrittenMasks] = {}
        """Masks that exist and are not yet in use."""
        if store.location.is_local:
            storage.delete_abandoned_writes(store.location.join(f"layers/{origin.layer}"))

    def todo(self, tile_ids: Iterable[str]) -> list[str]:
        """Those of the given tiles that lack masks of this origin. Masks that a killed run wrote but did not commit are
        adopted; a file that is damaged, or was made from another tile with this id, must be written again.

        Raises:
            UserError: there is no such tile, or storage fails.
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
        """Number of tiles whose masks the next commit puts in use."""
        return len(self._found)

    def adopt(self, tile_id: str, written: WrittenMasks) -> None:
        """Takes over masks that `write_masks` wrote, in this or another process."""
        self._found[tile_id] = written

    def commit(self, *, recover: bool = True) -> Manifest:
        """Puts all masks found so far in use in the store's next generation, preserving concurrent commits of others.
        There is nothing more to recover: `todo` adopts what a killed run left.

        Raises:
            UserError: the manifest no longer exists, or storage fails.
        """
        manifest = self._manifest.change(self._with_masks)
        self._found.clear()
        return manifest

    def _with_masks(self, manifest: Manifest | None) -> Manifest:
        if manifest is None:
            raise UserError(
                f"{self._manifest.location.uri}: disappeared while masks were made; ingest again, then repeat this "
                "command"
            )
        tiles = dict(manifest.tiles)
        for tile_id, written in self._found.items():
            if tile_id in tiles:  # otherwise the tile was removed meanwhile
                tiles[tile_id] = tiles[tile_id].with_masks(tile_id, *written)
        if tiles == manifest.tiles:
            return manifest
        return manifest.model_copy(update={"tiles": tiles, "generation": manifest.generation + 1})

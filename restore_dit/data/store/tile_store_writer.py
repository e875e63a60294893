"""Writing a tile store: each file as a whole or not at all, the manifest last, and never anything twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restore_dit.data import storage
from restore_dit.data.store.manifest import (
    MANIFEST_NAME,
    Manifest,
    TileRecord,
    layer_object,
    read_manifest,
    tile_object,
)
from restore_dit.data.store.tile_file import object_record, recover_record
from restore_dit.data.store.tile_statistics import optical_sums
from restore_dit.data.store.tile_writing import write_clouds, write_tile
from restore_dit.errors import UserError
from restore_dit.series import S2_BANDS, TileSeries

_SUFFIX = ".parquet"


class TileStoreWriter:
    """Adds tiles to a store, new or half written. Several may write different tiles at the same time, in any process:
    the one that commits finds what the others wrote.

        writer = TileStoreWriter("s3://bucket/store", source="cubes")
        if not writer.has(tile_id):
            writer.add(series)
        writer.commit()
    """

    def __init__(self, uri: str | Path, bands: Sequence[str] = S2_BANDS, source: str = "") -> None:
        """
        Args:
            uri: the store's folder; it is made where it is missing.
            bands: the bands that tiles may have, in the store's order; a tile may lack some.
            source: where the tiles come from, kept in the manifest.

        Raises:
            UserError: the folder holds something else, or a store of another format version.
        """
        self.location = storage.locate(uri)
        self.bands = tuple(bands)
        committed = self._committed()
        self._committed_generation = committed.generation if committed else 0
        self._source = source or (committed.source if committed else "")
        self._present = set(self._names("tiles"))
        # A file that somebody removed, say because it was damaged, is to be written again.
        self._tiles = {
            tile_id: record
            for tile_id, record in (committed.tiles if committed else {}).items()
            if tile_id in self._present
        }
        self._quarantined = dict(committed.quarantined) if committed else {}
        for folder in ("", "tiles", *(f"layers/{layer}" for layer in self._layers())):
            storage.delete_abandoned_writes(self.location.join(folder))

    def _committed(self) -> Manifest | None:
        manifest = self.location.join(MANIFEST_NAME)
        names = storage.list_names(self.location)
        if MANIFEST_NAME in names:
            return read_manifest(storage.read_bytes(manifest), manifest.uri)
        if set(names) - {"tiles", "layers"}:
            raise UserError(f"{self.location.uri}: holds {names[0]} and is no tile store; give a new or empty folder")
        return None

    def _names(self, folder: str) -> list[str]:
        names = storage.list_names(self.location.join(folder))
        return [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]

    def _layers(self) -> list[str]:
        return storage.list_names(self.location.join("layers"))

    def has(self, tile_id: str) -> bool:
        """Whether the tile is there as a whole, committed or not."""
        return tile_id in self._present

    def add(self, series: TileSeries) -> None:
        """Write a tile and its layers. It is part of the store once `commit` is called.

        Raises:
            UserError: an unsafe tile id, bands that the store does not take, a tile that is there already, or a
                storage failure.
        """
        if self.has(series.tile_id):
            raise UserError(f"{self.location.uri}: tile {series.tile_id} is there already, and tiles never change")
        self.adopt(series.tile_id, write_tile(self.location, series, self.bands))

    def adopt(self, tile_id: str, record: TileRecord) -> None:
        """Take over a tile that `write_tile` wrote, here or in another process. It is part of the store once `commit`
        is called."""
        self._tiles[tile_id] = record
        self._present.add(tile_id)
        self._quarantined.pop(tile_id, None)

    def replace_clouds(self, series: TileSeries) -> None:
        """Write, or write again, the clouds of a tile that is there: `series` is that tile with its new clouds.

        Raises:
            UserError: the tile is not there, or a storage failure.
        """
        if not self.has(series.tile_id):
            raise UserError(f"{self.location.uri}: no tile {series.tile_id!r} to give clouds to; ingest it first")
        if series.clouds is None:
            raise ValueError(f"the series of tile {series.tile_id} has no clouds to write")
        record = self._tiles.get(series.tile_id) or self._recovered(series.tile_id)
        sums = optical_sums(series.optical, series.clouds)
        record = record.model_copy(update={"optical": record.optical.model_copy(update={"sums": sums})})
        self._tiles[series.tile_id] = write_clouds(self.location, series, series.clouds, record)

    def quarantine(self, tile_id: str, reason: str) -> None:
        """Note that a tile could not be taken, and why. A later run may still add it."""
        self._quarantined[tile_id] = reason

    def commit(self) -> Manifest:
        """Make everything written so far, by this writer or others, part of the store: its next generation."""
        self._present |= set(self._names("tiles"))
        for tile_id in sorted(self._present - set(self._tiles)):
            self._tiles[tile_id] = self._recovered(tile_id)
        records = [self._tiles[tile_id] for tile_id in sorted(self._tiles)]
        found = {band for record in records for band in record.optical.bands}
        manifest = Manifest(
            generation=self._committed_generation + 1,
            source=self._source,
            bands=tuple(band for band in self.bands if band in found) + tuple(sorted(found - set(self.bands))),
            radar_tracks=tuple(sorted({track for record in records for track in record.radar})),
            tiles=dict(sorted(self._tiles.items())),
            quarantined={
                tile_id: reason for tile_id, reason in sorted(self._quarantined.items()) if tile_id not in self._tiles
            },
        )
        storage.write_bytes_atomically(self.location.join(MANIFEST_NAME), manifest.to_json())
        self._committed_generation = manifest.generation
        return manifest

    def _recovered(self, tile_id: str) -> TileRecord:
        """The record of a tile that was written but never committed, without decoding its pixels."""
        location = self.location.join(tile_object(tile_id))
        tile = storage.read_bytes(location)
        paths = {layer: layer_object(layer, tile_id) for layer in self._layers()}
        layers = {
            layer: storage.read_bytes(self.location.join(path))
            for layer, path in paths.items()
            if storage.exists(self.location.join(path))
        }
        record = recover_record(tile_id, tile, layers, location.uri)
        objects = {tile_object(tile_id): object_record(tile)}
        objects |= {paths[layer]: object_record(content) for layer, content in layers.items()}
        return record.model_copy(update={"objects": objects})

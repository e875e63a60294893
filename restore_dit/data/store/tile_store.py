"""The tile store: a folder at any URI with tiles, their layers and a manifest.

manifest.json                     the contents, as a numbered generation, written last
tiles/<tile_id>.parquet           one row: the tile's optical and radar series
layers/<name>/<tile_id>.parquet   one row: a named layer, such as `clouds`
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from restore_dit.data import storage
from restore_dit.data.store.frames import FrameIndex
from restore_dit.data.store.manifest import (
    MANIFEST_NAME,
    OPTICAL,
    RADAR_PREFIX,
    Manifest,
    ManifestFile,
    SensorRecord,
    TileRecord,
    layer_object,
    tile_object,
)
from restore_dit.data.store.masks import CLOUDS, SOURCE_CLOUDS, TRUE_CLOUDS, TRUTH, MaskOrigin
from restore_dit.data.store.stored_tile import StoredLayer, StoredSeries, StoredTile
from restore_dit.data.store.tile_file import LAYER, damaged, read_frame_indexes
from restore_dit.data.store.tile_store_writer import TileStoreWriter
from restore_dit.errors import UserError

_READ_AT_ONCE = 512 * 1024
"""Maximum size in bytes of a layer's file that is read in one request and kept: masks are small, and examples need them
whole."""

__all__ = ["StoredLayer", "StoredSeries", "StoredTile", "TileStore", "TileStoreWriter"]


@dataclass(frozen=True)
class TileStore:
    """A committed generation of a store, for reading. Can be pickled: workers read what their driver opened."""

    location: storage.Location
    manifest: Manifest

    @classmethod
    def open(cls, uri: str | Path) -> TileStore:
        """The store at a URI, at its last committed generation. Reads only the manifest.

        Raises:
            UserError: there is no store or an unfinished one, or its manifest is damaged or of another format version.
        """
        location = storage.locate(uri)
        manifest = ManifestFile(location).read()
        if manifest is None:
            if storage.list_names(location.join("tiles")):
                raise UserError(f"{location.uri}: its ingest was not finished (no {MANIFEST_NAME}); run it again")
            raise UserError(
                f"{location.uri}: no tile store there (no {MANIFEST_NAME}); specify a folder that `restore-dit "
                "ingest-cubes`, `ingest-pastis` or `simulate` wrote"
            )
        return cls(location, manifest)

    @property
    def uri(self) -> str:
        """The store's URI as given by the user."""
        return self.location.uri

    @cached_property
    def tile_ids(self) -> tuple[str, ...]:
        """All tile ids, sorted."""
        return tuple(sorted(self.manifest.tiles))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the tiles' content, which a run records to identify its training data."""
        return self.manifest.fingerprint

    def __len__(self) -> int:
        return len(self.manifest.tiles)

    def __reduce__(self) -> tuple[type[TileStore], tuple[storage.Location, Manifest]]:
        return TileStore, (self.location, self.manifest)

    def record(self, tile_id: str) -> TileRecord:
        """The manifest record of a tile.

        Raises:
            UserError: the store has no such tile.
        """
        record = self.manifest.tiles.get(tile_id)
        if record is None:
            why = self.manifest.quarantined.get(tile_id)
            raise UserError(f"{self.uri}: no tile {tile_id!r}" + (f"; it was quarantined: {why}" if why else ""))
        return record

    def load(
        self,
        tile_id: str,
        radar_tracks: tuple[str, ...] | None = None,
        layers: tuple[str, ...] = (CLOUDS,),
        masks: str | None = None,
    ) -> StoredTile:
        """Opens a tile without reading its frames: footers are read now, pixels when they are decoded.

        Args:
            tile_id: one of `tile_ids`.
            radar_tracks: the tracks to open, all by default. Tracks that the tile lacks are omitted.
            layers: the layers to open; `clouds` are the masks in use, `source_clouds` those that came with the tile,
                `true_clouds` those of a simulated tile. Layers that the tile lacks are omitted.
            masks: the layer whose masks to use as the tile's clouds instead of those in use.

        Raises:
            UserError: there is no such tile or masks, or a file is missing or damaged.
        """
        record = self.record(tile_id)
        tracks = [track for track in record.radar if radar_tracks is None or track in radar_tracks]
        path = tile_object(tile_id)
        location, size = self.location.join(path), record.objects[path].size
        indexes = read_frame_indexes(location, tile_id, size)
        expected = {OPTICAL: record.optical} | {RADAR_PREFIX + track: record.radar[track] for track in tracks}
        for column, sensor in expected.items():
            _check_sensor(indexes.get(column), sensor, record.size, f"{location.uri}, column {column}")
        in_use = masks or record.masks_in_use
        if in_use is not None and in_use not in record.masks:
            raise UserError(
                f"{self.uri}: tile {tile_id} has no masks {in_use}; it has {', '.join(record.masks) or 'none'}"
            )
        meant = {CLOUDS: in_use, SOURCE_CLOUDS: CLOUDS, TRUE_CLOUDS: MaskOrigin(method=TRUTH).layer}
        found = {name: meant.get(name, name) for name in layers}
        return StoredTile(
            tile_id=tile_id,
            optical=StoredSeries(location, size, indexes[OPTICAL]),
            radar={track: StoredSeries(location, size, indexes[RADAR_PREFIX + track]) for track in tracks},
            layers={
                name: self._layer(tile_id, layer, record)
                for name, layer in found.items()
                if layer is not None and layer in record.layers
            },
            georeference=record.georeference,
            properties=dict(record.properties),
            cloud_counts=None if in_use is None else record.masks[in_use].counts,
            source_counts=record.source_clouds,
            bad_frames=record.bad_frame_mask,
        )

    def _layer(self, tile_id: str, name: str, record: TileRecord) -> StoredLayer:
        path = layer_object(name, tile_id)
        location, size = self.location.join(path), record.objects[path].size
        content = storage.read_ranges(location, [(0, size)], size)[0] if size <= _READ_AT_ONCE else None
        index = read_frame_indexes(location, tile_id, size, content).get(LAYER)
        if index is None:
            raise damaged(location.uri, f"no column {LAYER}")
        if name in record.masks and (index.dtype, index.shape) != (np.uint8, (record.optical.frames, *record.size)):
            raise damaged(location.uri, f"masks {index.dtype} {index.shape} of {record.optical.frames} acquisitions")
        return StoredLayer(location, size, index, content)


def _check_sensor(index: FrameIndex | None, expected: SensorRecord, size: tuple[int, int], origin: str) -> None:
    if index is None:
        raise damaged(origin, "not in the file")
    shape = (expected.frames, len(expected.bands), *size)
    found = (index.dtype, index.shape, index.bands, len(index.dates))
    if found != (np.int16, shape, expected.bands, expected.frames):
        raise damaged(origin, f"contains {found}, the manifest says {shape} of {', '.join(expected.bands)}")

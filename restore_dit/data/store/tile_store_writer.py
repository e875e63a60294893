"""Writes a tile store: each file atomically, the manifest last, and nothing twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restore_dit.data import storage
from restore_dit.data.items import Writer
from restore_dit.data.store.manifest import (
    MANIFEST_NAME,
    Manifest,
    ManifestFile,
    TileRecord,
    is_safe_name,
    tile_object,
)
from restore_dit.data.store.tile_file import damaged, object_record, written_record
from restore_dit.data.store.tile_writing import write_tile
from restore_dit.errors import UserError
from restore_dit.series import S2_ALL_BANDS, TileSeries

_SUFFIX = ".parquet"


class TileStoreWriter(Writer[TileRecord]):
    """Adds tiles to a new or partially written store. Several writers may write different tiles at the same time, in
    any processes: each commit includes what the others have committed.

        writer = TileStoreWriter("s3://bucket/store", source="cubes")
        if not writer.has(tile_id):
            writer.add(series)
        writer.commit()
    """

    def __init__(self, uri: str | Path, bands: Sequence[str] = S2_ALL_BANDS, source: str = "") -> None:
        """Opens the store for writing.

        Args:
            uri: the store's folder, created if missing.
            bands: the bands that tiles may have, in the store's order; a tile may lack some.
            source: the origin of the tiles, stored in the manifest.

        Raises:
            UserError: the folder contains something else, or a store of another format version.
        """
        self.location = storage.locate(uri)
        self.bands = tuple(bands)
        self._manifest = ManifestFile(self.location)
        self._require_store()
        self._source = source
        self._present = set(self._names("tiles"))
        self._written: dict[str, TileRecord] = {}
        """Records of the tiles that this writer has written but not yet committed."""
        self._quarantined: dict[str, str] = {}
        folders = ["tiles", *(f"layers/{layer}" for layer in self._layers())] if self.location.is_local else []
        for place in (
            self.location,
            *map(self.location.join, folders),
        ):  # on S3, one call finds all below the bucket's folder
            storage.delete_abandoned_writes(place)

    def _require_store(self) -> None:
        """Raises `UserError` if the folder contains something else, or an unreadable manifest."""
        names = set(storage.list_names(self.location))
        if MANIFEST_NAME in names:
            self._manifest.read()
        elif others := sorted(names - {"tiles", "layers"}):
            raise UserError(
                f"{self.location.uri}: contains {others[0]} and is not a tile store; specify a new or empty folder"
            )

    def _names(self, folder: str) -> list[str]:
        names = storage.list_names(self.location.join(folder))
        tile_ids = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
        return [tile_id for tile_id in tile_ids if is_safe_name(tile_id)]  # other names cannot be tiles

    def _layers(self) -> list[str]:
        return storage.list_names(self.location.join("layers"))

    def has(self, tile_id: str) -> bool:
        """Whether the tile is completely written, committed or not."""
        return tile_id in self._present

    def add(self, series: TileSeries) -> None:
        """Writes a tile and its layers, which become part of the store at the next `commit`.

        Raises:
            UserError: the tile id is unsafe, the store does not accept its bands, the tile already exists, or storage
                fails.
        """
        if self.has(series.tile_id):
            raise UserError(f"{self.location.uri}: tile {series.tile_id} already exists, and tiles never change")
        self.adopt(series.tile_id, write_tile(self.location, series, self.bands))

    @property
    def uncommitted(self) -> int:
        """Number of tiles that the next commit adds."""
        return len(self._written)

    def adopt(self, tile_id: str, record: TileRecord) -> None:
        """Takes over a tile that `write_tile` wrote, in this or another process. It becomes part of the store at the
        next `commit`."""
        self._written[tile_id] = record
        self._present.add(tile_id)
        self._quarantined.pop(tile_id, None)

    def refuse(self, tile_id: str, reason: str) -> None:
        """Puts a tile that could not be added into quarantine, with the reason. A later run may still add it."""
        self._quarantined[tile_id] = reason

    def commit(self, *, recover: bool = True) -> Manifest:
        """Makes everything written so far part of the store's next generation, preserving concurrent commits of others.

        With `recover`, existing tiles that are in no manifest are adopted, too: those left by a killed writer, or not
        yet committed by another. This reads each of them, so use `recover=False` for intermediate commits.
        """

        def following(committed: Manifest | None) -> Manifest:
            # Listed after reading the manifest, so that any tile it names is either listed or has been removed.
            self._present = set(self._names("tiles"))
            return self._next(committed, recover)

        manifest = self._manifest.change(following)
        self._written.clear()  # others may add to these tiles from now on
        return manifest

    def _next(self, committed: Manifest | None, recover: bool) -> Manifest:
        """The generation after `committed`, with this writer's tiles and quarantine."""
        others = {} if committed is None else committed.tiles
        tiles = {tile_id: record for tile_id, record in others.items() if tile_id in self._present}
        for tile_id, record in self._written.items():
            path = tile_object(tile_id)
            # If another writer has already committed this exact file, masks may have been added to its record.
            if tile_id not in tiles or tiles[tile_id].objects[path] != record.objects[path]:
                tiles[tile_id] = record
        if recover:
            for tile_id in sorted(self._present - set(tiles)):
                tiles[tile_id] = self._written[tile_id] = self._recovered(tile_id)
        quarantined = ({} if committed is None else committed.quarantined) | self._quarantined
        records = tiles.values()
        found = {band for record in records for band in record.optical.bands}
        return Manifest(
            generation=1 if committed is None else committed.generation + 1,
            source=self._source or ("" if committed is None else committed.source),
            bands=tuple(band for band in self.bands if band in found) + tuple(sorted(found - set(self.bands))),
            radar_tracks=tuple(sorted({track for record in records for track in record.radar})),
            tiles=dict(sorted(tiles.items())),
            quarantined={tile: reason for tile, reason in sorted(quarantined.items()) if tile not in tiles},
        )

    def _recovered(self, tile_id: str) -> TileRecord:
        """The record of a tile that was written but never committed, without decoding its pixels."""
        path = tile_object(tile_id)
        location = self.location.join(path)
        tile = storage.read_bytes(location)
        record = written_record(tile_id, tile, location.uri)
        for name, expected in record.objects.items():
            layer = self.location.join(name)
            content, _ = storage.read_versioned(layer)
            if content is None or object_record(content) != expected:
                raise damaged(layer.uri, "not what was written with the tile")
        return record.model_copy(update={"objects": {**record.objects, path: object_record(tile)}})

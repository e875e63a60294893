"""`manifest.json` of a tile store: its contents, committed last, as a numbered generation; read with all its checks,
and changed without losing what other processes commit."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from restore_dit.config import Section
from restore_dit.config.loading import build
from restore_dit.data import storage
from restore_dit.data.store.masks import CLOUDS, CloudCounts, MaskRecord
from restore_dit.data.store.tile_statistics import Sums, merge_sums
from restore_dit.errors import UserError
from restore_dit.series import DECIBEL_SCALE, NO_DATA, REFLECTANCE_SCALE, Georeference

MANIFEST_NAME = "manifest.json"
FORMAT: Literal["restore-dit tile store"] = "restore-dit tile store"
VERSION: Literal[3] = 3

OPTICAL = "optical"
RADAR_PREFIX = "radar/"

BAD_FRAMES = "bad_frames"
"""Name of the layer, with one value per optical acquisition, of frames that the source considers too bad to be
targets."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def is_safe_name(name: str) -> bool:
    """Whether `name` may be part of a path: no separator, no leading dot, at most 128 characters."""
    return _SAFE_NAME.fullmatch(name) is not None


def check_name(name: str, what: str = "tile id") -> str:
    """`name`, if it may be part of a path: no separator, no leading dot, at most 128 characters.

    Raises:
        UserError: it may not.
    """
    if not is_safe_name(name):
        raise UserError(
            f"unsafe {what} {name[:140]!r}: use at most 128 letters, digits, '.', '_' and '-', beginning with a letter "
            "or digit"
        )
    return name


def tile_object(tile_id: str) -> str:
    """Path of a tile's file within its store."""
    return f"tiles/{check_name(tile_id)}.parquet"


def layer_object(layer: str, tile_id: str) -> str:
    """Path of the file with a tile's named layer within its store."""
    return f"layers/{check_name(layer, 'layer')}/{check_name(tile_id)}.parquet"


def checksum(content: bytes | pa.Buffer) -> str:
    """The checksum that a manifest stores for each object."""
    return "blake2b-128:" + hashlib.blake2b(content, digest_size=16).hexdigest()


class SensorRecord(Section):
    """One sensor's series of a tile."""

    bands: tuple[str, ...]
    frames: int
    first_date: datetime.date | None
    last_date: datetime.date | None
    sums: Sums = Field(description="over valid pixels, whether or not they are cloudy, in reflectance or dB")


class ObjectRecord(Section):
    """One file of the store."""

    size: int = Field(ge=0, description="bytes")
    checksum: str


class TileRecord(Section):
    """The information about a tile that is available without opening it."""

    size: tuple[int, int] = Field(description="H, W in pixels")
    crs: str | None
    transform: tuple[float, float, float, float, float, float] | None
    optical: SensorRecord
    radar: dict[str, SensorRecord]
    properties: dict[str, str | int | float]
    masks: dict[str, MaskRecord] = Field(default={}, description="layer → the cloud masks stored there")
    masks_in_use: str | None = Field(None, description="the layer with the masks in use")
    bad_frames: tuple[int, ...] | None = Field(None, description="indices of the frames that the source lists as bad")
    layers: tuple[str, ...] = ()
    objects: dict[str, ObjectRecord] = Field(default={}, description="path within the store → its size and checksum")

    @model_validator(mode="after")
    def _masks_are_layers(self) -> TileRecord:
        lost = ({*self.masks} | ({self.masks_in_use} if self.masks_in_use else set())) - {*self.layers}
        if lost or (self.masks_in_use is not None and self.masks_in_use not in self.masks):
            raise ValueError(f"no masks in {', '.join(sorted(lost)) or self.masks_in_use}")
        return self

    @property
    def georeference(self) -> Georeference | None:
        """The tile's georeference, if known."""
        return None if self.crs is None or self.transform is None else Georeference(self.crs, self.transform)

    @property
    def clouds(self) -> CloudCounts | None:
        """Counts from the masks in use; None without cloud masks."""
        return None if self.masks_in_use is None else self.masks[self.masks_in_use].counts

    @property
    def source_clouds(self) -> CloudCounts | None:
        """Counts from the masks that came with the tile; None without such masks."""
        return self.masks[CLOUDS].counts if CLOUDS in self.masks else None

    @property
    def clear_sums(self) -> Sums:
        """Sums in reflectance over valid pixels that are clear according to the masks in use, or over all valid pixels
        without masks."""
        return self.optical.sums if self.masks_in_use is None else self.masks[self.masks_in_use].sums

    def with_masks(self, tile_id: str, masks: MaskRecord, file: ObjectRecord) -> TileRecord:
        """The record of tile `tile_id` with these masks in `file` added and in use."""
        layer = masks.origin.layer
        return self.model_copy(
            update={
                "masks": {**self.masks, layer: masks},
                "masks_in_use": layer,
                "layers": tuple(sorted({*self.layers, layer})),
                "objects": {**self.objects, layer_object(layer, tile_id): file},
            }
        )

    @property
    def bad_frame_mask(self) -> NDArray[np.bool_] | None:
        """Which acquisitions the source lists as bad, bool [T]; None if it has no list."""
        if self.bad_frames is None:
            return None
        return np.isin(np.arange(self.optical.frames), self.bad_frames)

    @property
    def fold(self) -> int | None:
        """The fold that the source assigned, if any."""
        fold = self.properties.get("fold")
        return None if fold is None else int(fold)


class Units(Section):
    """The units of stored integers."""

    reflectance_scale: int = REFLECTANCE_SCALE
    decibel_scale: int = DECIBEL_SCALE
    no_data: int = int(NO_DATA)


class Manifest(Section):
    """The whole store at one generation. `bands` are all bands that any tile has, in the store's order."""

    format: Literal["restore-dit tile store"] = FORMAT
    version: Literal[3] = VERSION
    generation: int = Field(0, ge=0)
    source: str = ""
    bands: tuple[str, ...] = ()
    radar_tracks: tuple[str, ...] = ()
    units: Units = Units()
    tiles: dict[str, TileRecord] = Field(default={}, description="tile id → its record")
    quarantined: dict[str, str] = Field(default={}, description="tile id → why it is not in the store")

    @field_validator("tiles")
    @classmethod
    def _safe_tiles(cls, tiles: dict[str, TileRecord]) -> dict[str, TileRecord]:
        for tile_id, record in tiles.items():
            try:
                expected = {tile_object(tile_id), *(layer_object(layer, tile_id) for layer in record.layers)}
                for track in record.radar:
                    check_name(track, "radar track")
            except UserError as error:
                raise ValueError(str(error)) from None
            if set(record.objects) != expected:
                raise ValueError(f"tile {tile_id} must consist of {sorted(expected)}, not {sorted(record.objects)}")
        return tiles

    @property
    def fingerprint(self) -> str:
        """A hash of the tiles' content: equal for equal objects, whichever runs and generations wrote them. Masks that
        are not in use are excluded."""
        content = {
            "version": self.version,
            "units": self.units.model_dump(),
            "objects": {
                path: entry.checksum
                for tile_id, tile in self.tiles.items()
                for path, entry in tile.objects.items()
                if path not in {layer_object(layer, tile_id) for layer in tile.masks if layer != tile.masks_in_use}
            },
        }
        return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()

    def optical_sums(self, tile_ids: Iterable[str] | None = None) -> Sums:
        """Sums in reflectance over the valid, clear pixels of the given tiles (default: all)."""
        return merge_sums(self.tiles[tile].clear_sums for tile in self._chosen(tile_ids))

    def radar_sums(self, track: str, tile_ids: Iterable[str] | None = None) -> Sums:
        """Sums in dB of VV, VH and VV-VH of one radar track over the given tiles (default: all)."""
        records = (self.tiles[tile].radar.get(track) for tile in self._chosen(tile_ids))
        return merge_sums(record.sums for record in records if record is not None)

    def _chosen(self, tile_ids: Iterable[str] | None) -> Iterable[str]:
        return self.tiles if tile_ids is None else tile_ids

    def to_json(self) -> bytes:
        """The content of `manifest.json`."""
        return self.model_dump_json().encode()


class ManifestFile:
    """The manifest of a store, which each change replaces as a whole."""

    def __init__(self, store: storage.Location) -> None:
        self.location = store.join(MANIFEST_NAME)
        self._written: tuple[bytes, Manifest] | None = None
        """The last content written here. Parsing it again would be most of the cost of the next change: 0.8 of 1 s for
        2433 tiles."""

    def read(self) -> Manifest | None:
        """The manifest; None if there is none.

        Raises:
            UserError: the file cannot be read, or is not a valid manifest.
        """
        return self._read_with_version()[0]

    def change(self, changed: Callable[[Manifest | None], Manifest]) -> Manifest:
        """Writes what `changed` makes of the manifest, and returns it. If another process writes the file meanwhile,
        `changed` is called again with that content. Nothing is written if it returns what it is given.

        Raises:
            UserError: the file cannot be read or written, or is not a valid manifest.
        """
        while True:
            manifest, version = self._read_with_version()
            following = changed(manifest)
            if following is manifest:
                return following
            content = following.to_json()
            # If another writer came first, its tiles are in the manifest that the next turn of the loop reads.
            if storage.write_if_version(self.location, content, version):
                self._written = content, following
                return following

    def _read_with_version(self) -> tuple[Manifest | None, str | None]:
        content, version = storage.read_versioned(self.location)
        if content is None:
            return None, version
        if self._written is not None and content == self._written[0]:
            return self._written[1], version
        return read_manifest(content, self.location.uri), version


def read_manifest(content: bytes, origin: str) -> Manifest:
    """The manifest written by `to_json`; `origin` names the file in errors.

    Raises:
        UserError: the content is not a manifest, is damaged, has another format version, or contains unsafe tile ids.
    """
    try:
        tree = json.loads(content)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{origin}: damaged, not JSON ({error}); restore it or ingest again") from None
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise UserError(f"{origin}: not the manifest of a tile store; specify a folder that an ingest wrote")
    if tree.get("version") != VERSION:
        raise UserError(
            f"{origin}: format version {tree.get('version')!r}, this program reads {VERSION}; "
            "use a matching version of restore-dit or ingest again"
        )
    # Tile ids become paths. An id with `..` in a manipulated manifest must not lead out of the store.
    try:
        return build(Manifest, tree, origin)
    except UserError as error:
        raise UserError(f"{error}; the manifest is damaged: restore it or ingest again") from None

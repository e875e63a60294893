"""What is in a tile store, for people; and whether its files are still what was committed."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from restore_dit.data import storage
from restore_dit.data.store.manifest import MANIFEST_NAME, TileRecord, checksum
from restore_dit.data.store.tile_statistics import BandSums
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError

CLEAR_FRAME_SHARE = 0.95
"""Least share of clear pixels in a frame that is counted as clear."""

_MOST_TILES = 40
"""Longer lists of tiles are cut in the text, never in the structure."""


@dataclass(frozen=True)
class TileDescription:
    """One tile; shares are None where nobody detected clouds."""

    tile_id: str
    size: tuple[int, int]
    pixel_size: float | None
    bands: tuple[str, ...]
    first_date: datetime.date | None
    last_date: datetime.date | None
    optical_acquisitions: int
    radar_acquisitions: dict[str, int]
    cloud_share: float | None
    clear_frame_share: float | None
    bytes: int


@dataclass(frozen=True)
class BandDescription:
    """Mean and standard deviation of a band: reflectance over clear pixels, or dB."""

    count: int
    mean: float
    std: float


@dataclass(frozen=True)
class StoreDescription:
    """A whole store, from its manifest alone."""

    uri: str
    source: str
    generation: int
    fingerprint: str
    bands: tuple[str, ...]
    radar_tracks: tuple[str, ...]
    first_date: datetime.date | None
    last_date: datetime.date | None
    bytes: int
    tiles: tuple[TileDescription, ...]
    optical: dict[str, BandDescription]
    radar: dict[str, dict[str, BandDescription]]
    quarantined: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return _plain(asdict(self))

    def __str__(self) -> str:
        """The same to be read by people, on any terminal or none."""
        tiles, dates = self.tiles, f"{self.first_date} to {self.last_date}" if self.first_date else "none"
        lines = [
            f"tile store   {self.uri}",
            f"source       {self.source or 'not said'}",
            f"generation   {self.generation}, fingerprint {self.fingerprint}",
            f"tiles        {len(tiles)} ({self.bytes / 1e6:.1f} MB), {len(self.quarantined)} quarantined",
            f"bands        {', '.join(self.bands) or 'none'}",
            f"radar        {', '.join(self.radar_tracks) or 'none'}",
            f"dates        {dates}",
            "",
            *_table(
                ("tile", "pixels", "m", "bands", "optical", "radar", "cloud", "clear frames", "first", "last"),
                [_tile_row(tile) for tile in tiles[:_MOST_TILES]],
            ),
        ]
        if len(tiles) > _MOST_TILES:
            lines.append(f"… and {len(tiles) - _MOST_TILES} more tiles")
        sensors = {"optical (reflectance)": self.optical}
        sensors |= {f"radar {track} (dB)": bands for track, bands in self.radar.items()}
        for name, bands in sensors.items():
            rows = [(band, f"{entry.mean:.4f}", f"{entry.std:.4f}", str(entry.count)) for band, entry in bands.items()]
            lines += ["", *_table((name, "mean", "std", "pixels"), rows)]
        if self.quarantined:
            lines += ["", "quarantined"] + [f"  {tile}: {reason}" for tile, reason in self.quarantined.items()]
        return "\n".join(lines)


def describe_store(store: TileStore) -> StoreDescription:
    """What the store holds, from its manifest alone: no tile is read."""
    manifest = store.manifest
    tiles = tuple(_describe_tile(tile_id, store.record(tile_id)) for tile_id in store.tile_ids)
    first = [tile.first_date for tile in tiles if tile.first_date]
    last = [tile.last_date for tile in tiles if tile.last_date]
    sums = manifest.optical_sums()
    return StoreDescription(
        uri=store.uri,
        source=manifest.source,
        generation=manifest.generation,
        fingerprint=store.fingerprint,
        bands=manifest.bands,
        radar_tracks=manifest.radar_tracks,
        first_date=min(first, default=None),
        last_date=max(last, default=None),
        bytes=sum(tile.bytes for tile in tiles),
        tiles=tiles,
        optical={band: _describe_band(sums[band]) for band in manifest.bands},
        radar={
            track: {band: _describe_band(entry) for band, entry in manifest.radar_sums(track).items()}
            for track in manifest.radar_tracks
        },
        quarantined=dict(manifest.quarantined),
    )


def _describe_tile(tile_id: str, record: TileRecord) -> TileDescription:
    clouds = record.clouds
    pixels = record.size[0] * record.size[1]
    clear = [count >= CLEAR_FRAME_SHARE * pixels for count in clouds.clear_pixels] if clouds else []
    return TileDescription(
        tile_id=tile_id,
        size=record.size,
        pixel_size=abs(record.transform[0]) if record.transform else None,
        bands=record.optical.bands,
        first_date=record.optical.first_date,
        last_date=record.optical.last_date,
        optical_acquisitions=record.optical.frames,
        radar_acquisitions={track: radar.frames for track, radar in record.radar.items()},
        cloud_share=None if clouds is None or math.isnan(clouds.cloud_share) else clouds.cloud_share,
        clear_frame_share=sum(clear) / len(clear) if clear else None,
        bytes=sum(entry.size for entry in record.objects.values()),
    )


def _describe_band(sums: BandSums) -> BandDescription:
    return BandDescription(sums.count, sums.mean, sums.std)


def _tile_row(tile: TileDescription) -> tuple[str, ...]:
    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.1%}"

    return (
        tile.tile_id,
        f"{tile.size[0]}×{tile.size[1]}",
        "-" if tile.pixel_size is None else f"{tile.pixel_size:g}",
        str(len(tile.bands)),
        str(tile.optical_acquisitions),
        " ".join(f"{track}:{count}" for track, count in tile.radar_acquisitions.items()) or "-",
        share(tile.cloud_share),
        share(tile.clear_frame_share),
        str(tile.first_date or "-"),
        str(tile.last_date or "-"),
    )


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, datetime.date):
        return value.isoformat()
    return None if isinstance(value, float) and math.isnan(value) else value


def verify_store(store: TileStore, on_progress: Callable[[int, int], None] | None = None) -> list[str]:
    """Read every file of the store and compare it with the manifest: one line for each that is missing or differs.

    Args:
        store: the store, as opened.
        on_progress: called with (files read, files in all).
    """
    objects = [(path, entry) for tile in store.tile_ids for path, entry in store.record(tile).objects.items()]
    problems = []
    for done, (path, entry) in enumerate(objects, start=1):
        location = store.location.join(path)
        try:
            content = storage.read_bytes(location)
        except UserError as error:
            problems.append(str(error))
        else:
            if len(content) != entry.size:
                problems.append(f"{location.uri}: {len(content)} bytes, {MANIFEST_NAME} says {entry.size}: restore it")
            elif checksum(content) != entry.checksum:
                problems.append(f"{location.uri}: its checksum is not the one in {MANIFEST_NAME}: restore it")
        if on_progress:
            on_progress(done, len(objects))
    return problems

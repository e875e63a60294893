"""Describes the contents of a tile store: counts, dates, clouds, band statistics, and what was left out."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.crs import pixel_sides, shown_sides
from restore_dit.data.store.manifest import TileRecord
from restore_dit.data.store.tile_statistics import BandSums
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError

CLEAR_FRAME_SHARE = 0.95
"""Minimum share of clear pixels for a frame to count as clear."""

HIDDEN_FRAME_SHARE = 0.5
"""Share of clear pixels below which a frame counts as mostly hidden."""

DATED_TILES = 64
"""Maximum number of tiles, evenly chosen, of which all dates are read; the manifest only has the first and last."""

_THREADS = 16


@dataclass(frozen=True)
class TileDescription:
    """One tile. `pixel_size` is height and width in metres, None if the tile's position is unknown; shares are None
    without cloud masks."""

    tile_id: str
    size: tuple[int, int]
    pixel_size: tuple[float, float] | None
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
    """Mean and standard deviation of a band, over clear pixels in reflectance, or in dB; and the share of these pixels
    without data."""

    count: int
    mean: float
    std: float
    no_data_share: float


@dataclass(frozen=True)
class SeriesDescription:
    """The acquisitions of a sensor over the tiles that have it: frames per tile, and the median number of days between
    two."""

    tiles: int
    frames: int
    fewest: int
    median: float
    most: int
    first_date: datetime.date | None
    last_date: datetime.date | None
    revisit_days: float | None


@dataclass(frozen=True)
class FrameClouds:
    """How clear a set of optical frames is. Pixels that are not clear are cloud, shadow or no data."""

    frames: int
    clear_frames: int
    hidden_frames: int
    mean_hidden: float


@dataclass(frozen=True)
class CloudDescription:
    """Clouds of the tiles with masks: share of each class among all pixels, over all frames, and over frames by month
    (1–12)."""

    tiles: int
    classes: dict[str, float]
    frames: FrameClouds
    months: dict[int, FrameClouds]


@dataclass(frozen=True)
class TargetDescription:
    """Which frames may be targets under a `rule` (the keys of `data.targets`): number of `frames` by decision, targets
    per tile (minimum, median, maximum), tiles without any target, and tiles that are undecided because they lack
    masks."""

    rule: dict[str, str | float | None]
    tiles: int
    frames: dict[str, int]
    fewest: int
    median: float
    most: int
    without_target: tuple[str, ...]
    undecided: tuple[str, ...]


@dataclass(frozen=True)
class StoreDescription:
    """A whole store, from its manifest and the dates of up to `DATED_TILES` of its tiles. `targets` is set if a rule
    was specified."""

    uri: str
    format: str
    source: str
    generation: int
    fingerprint: str
    bands: tuple[str, ...]
    radar_tracks: tuple[str, ...]
    first_date: datetime.date | None
    last_date: datetime.date | None
    pixels: int
    objects: int
    bytes: int
    sizes: dict[str, int]
    crs: dict[str, int]
    folds: dict[str, int]
    layers: dict[str, int]
    masks: dict[str, int]
    tiles: tuple[TileDescription, ...]
    series: dict[str, SeriesDescription]
    optical: dict[str, BandDescription]
    radar: dict[str, dict[str, BandDescription]]
    clouds: CloudDescription | None
    dated_tiles: int
    quarantined: dict[str, str]
    unreadable: dict[str, str]
    targets: TargetDescription | None = None

    def as_json(self) -> dict[str, Any]:
        """The description as JSON values."""
        return _plain(asdict(self))


def describe_store(store: TileStore) -> StoreDescription:
    """Describes the store. Tiles whose dates cannot be read are listed in `unreadable`."""
    manifest = store.manifest
    records = manifest.tiles
    tiles = tuple(_describe_tile(tile_id, store.record(tile_id)) for tile_id in store.tile_ids)
    dates, unreadable = _read_dates(store, evenly(store.tile_ids, DATED_TILES))
    return StoreDescription(
        uri=store.uri,
        format=f"{manifest.format}, version {manifest.version}",
        source=manifest.source,
        generation=manifest.generation,
        fingerprint=store.fingerprint,
        bands=manifest.bands,
        radar_tracks=manifest.radar_tracks,
        first_date=min((tile.first_date for tile in tiles if tile.first_date), default=None),
        last_date=max((tile.last_date for tile in tiles if tile.last_date), default=None),
        pixels=sum(record.size[0] * record.size[1] for record in records.values()),
        objects=sum(len(record.objects) for record in records.values()),
        bytes=sum(tile.bytes for tile in tiles),
        sizes=_counted(_size(tile) for tile in tiles),
        crs=_counted(_short_crs(record.crs) for record in records.values()),
        folds=_counted(str(record.fold) for record in records.values() if record.fold is not None),
        layers=_counted(layer for record in records.values() for layer in record.layers),
        masks=_counted(
            f"{layer}: {masks.origin}{', in use' if layer == record.masks_in_use else ''}"
            for record in records.values()
            for layer, masks in record.masks.items()
        ),
        tiles=tiles,
        series=_describe_series(store, dates),
        optical=_describe_optical(store),
        radar={track: _describe_radar(store, track) for track in manifest.radar_tracks},
        clouds=_describe_clouds(store, {tile: found[_OPTICAL] for tile, found in dates.items()}),
        dated_tiles=len(dates),
        quarantined=dict(manifest.quarantined),
        unreadable=unreadable,
    )


def evenly(tile_ids: Sequence[str], count: int) -> list[str]:
    """At most `count` of the tiles, evenly spaced in their order, including the first and the last."""
    positions = np.linspace(0, len(tile_ids) - 1, min(count, len(tile_ids)))
    return [tile_ids[round(position)] for position in positions]


def _describe_tile(tile_id: str, record: TileRecord) -> TileDescription:
    clouds = record.clouds
    pixels = record.size[0] * record.size[1]
    clear = [count >= CLEAR_FRAME_SHARE * pixels for count in clouds.clear_pixels] if clouds else []
    return TileDescription(
        tile_id=tile_id,
        size=record.size,
        pixel_size=pixel_size_of(record),
        bands=record.optical.bands,
        first_date=record.optical.first_date,
        last_date=record.optical.last_date,
        optical_acquisitions=record.optical.frames,
        radar_acquisitions={track: radar.frames for track, radar in record.radar.items()},
        cloud_share=None if clouds is None or math.isnan(clouds.cloud_share) else clouds.cloud_share,
        clear_frame_share=sum(clear) / len(clear) if clear else None,
        bytes=sum(entry.size for entry in record.objects.values()),
    )


def pixel_size_of(record: TileRecord) -> tuple[float, float] | None:
    """Height and width of a tile's pixels in metres, None if its position or CRS is unknown."""
    try:
        return None if record.georeference is None else pixel_sides(record.georeference, record.size)
    except UserError:  # stores made elsewhere may name their CRS arbitrarily
        return None


_OPTICAL = "optical"
_Dates = dict[str, NDArray[np.datetime64]]


def _read_dates(store: TileStore, tile_ids: Sequence[str]) -> tuple[dict[str, _Dates], dict[str, str]]:
    """Tile → sensor → dates, and tile → why its dates cannot be read."""

    def read(tile_id: str) -> _Dates | UserError:
        try:
            tile = store.load(tile_id, layers=())
        except UserError as error:
            return error
        return {_OPTICAL: tile.optical.dates} | {f"radar {track}": radar.dates for track, radar in tile.radar.items()}

    with ThreadPoolExecutor(_THREADS) as pool:
        found = dict(zip(tile_ids, pool.map(read, tile_ids), strict=True))
    dates = {tile_id: one for tile_id, one in found.items() if not isinstance(one, UserError)}
    return dates, {tile_id: str(one) for tile_id, one in found.items() if isinstance(one, UserError)}


def _describe_series(store: TileStore, dates: dict[str, _Dates]) -> dict[str, SeriesDescription]:
    records = list(store.manifest.tiles.values())
    sensors = {_OPTICAL: [record.optical for record in records]} if records else {}
    for track in store.manifest.radar_tracks:
        sensors[f"radar {track}"] = [record.radar[track] for record in records if track in record.radar]
    described = {}
    for name, sensor in sensors.items():
        counts = [record.frames for record in sensor]
        steps = np.concatenate(
            [np.empty(0), *(np.diff(found[name]).astype(float) for found in dates.values() if name in found)]
        )
        described[name] = SeriesDescription(
            tiles=len(sensor),
            frames=sum(counts),
            fewest=min(counts),
            median=float(np.median(counts)),
            most=max(counts),
            first_date=min((record.first_date for record in sensor if record.first_date), default=None),
            last_date=max((record.last_date for record in sensor if record.last_date), default=None),
            revisit_days=float(np.median(steps)) if len(steps) else None,
        )
    return described


def _describe_optical(store: TileStore) -> dict[str, BandDescription]:
    """Shares without data refer to the pixels that the sums are computed from: the clear ones, if there are masks."""
    expected: Counter[str] = Counter()
    for record in store.manifest.tiles.values():
        pixels = record.optical.frames * record.size[0] * record.size[1]
        looked_at = pixels if record.clouds is None else sum(record.clouds.clear_pixels)
        expected.update(dict.fromkeys(record.optical.bands, looked_at))
    sums = store.manifest.optical_sums()
    return {band: _describe_band(sums[band], expected[band]) for band in store.manifest.bands}


def _describe_radar(store: TileStore, track: str) -> dict[str, BandDescription]:
    records = [record for record in store.manifest.tiles.values() if track in record.radar]
    expected = sum(record.radar[track].frames * record.size[0] * record.size[1] for record in records)
    return {band: _describe_band(sums, expected) for band, sums in store.manifest.radar_sums(track).items()}


def _describe_band(sums: BandSums, expected: int) -> BandDescription:
    return BandDescription(sums.count, sums.mean, sums.std, 1 - sums.count / expected if expected else math.nan)


def _describe_clouds(store: TileStore, dates: dict[str, NDArray[np.datetime64]]) -> CloudDescription | None:
    classes: Counter[str] = Counter()
    shares, months, dated = [], [], []
    for tile_id, record in store.manifest.tiles.items():
        if record.clouds is None or not record.clouds.clear_pixels:
            continue
        clear = np.array(record.clouds.clear_pixels) / (record.size[0] * record.size[1])
        classes.update(record.clouds.pixels)
        shares.append(clear)
        if tile_id in dates:
            dated.append(clear)
            months.append(dates[tile_id].astype("datetime64[M]").astype(int) % 12 + 1)
    if not shares:
        return None
    month, clear_of_dated = (np.concatenate([np.empty(0), *parts]) for parts in (months, dated))
    total = classes.total()
    return CloudDescription(
        tiles=len(shares),
        classes={name: count / total for name, count in classes.items()},
        frames=_frame_clouds(np.concatenate(shares)),
        months={int(one): _frame_clouds(clear_of_dated[month == one]) for one in np.unique(month)},
    )


def _frame_clouds(clear: NDArray[np.floating]) -> FrameClouds:
    return FrameClouds(
        frames=len(clear),
        clear_frames=int((clear >= CLEAR_FRAME_SHARE).sum()),
        hidden_frames=int((clear < HIDDEN_FRAME_SHARE).sum()),
        mean_hidden=float(1 - clear.mean()),
    )


def _size(tile: TileDescription) -> str:
    metres = "" if tile.pixel_size is None else f" of {shown_sides(tile.pixel_size)} m"
    return f"{tile.size[0]}×{tile.size[1]}{metres}"


def _short_crs(crs: str | None) -> str:
    return "none" if crs is None else crs if len(crs) <= 40 else f"{crs[:40]}…"


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, datetime.date):
        return value.isoformat()
    return None if isinstance(value, float) and math.isnan(value) else value

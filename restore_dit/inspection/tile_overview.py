"""A tile summarised for one row of the contact sheet: a few pictures, and its clouds over the period."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.crs import shown_sides
from restore_dit.data.store.manifest import BAD_FRAMES
from restore_dit.data.store.tile_store import TileStore
from restore_dit.indices import vegetation_index
from restore_dit.inspection.description import pixel_size_of
from restore_dit.pictures.composites import Composite, natural_composite
from restore_dit.series import (
    CLEAR,
    CLOUD_NO_DATA,
    DECIBEL_SCALE,
    NO_DATA,
    REFLECTANCE_SCALE,
    SHADOW,
    THICK_CLOUD,
    THIN_CLOUD,
    TileSeries,
)

STRIP_CLASSES = {"thick cloud": THICK_CLOUD, "thin cloud": THIN_CLOUD, "shadow": SHADOW, "no data": CLOUD_NO_DATA}
"""Reasons why a pixel is hidden, in stacking order."""

_INDEX_BANDS = ("B04", "B05", "B08", "B8A")

_ENOUGH_CLEAR = 0.1
"""Minimum share of clear pixels for a frame's vegetation index to be used."""


@dataclass(frozen=True)
class FramePicture:
    """One frame: `image` [H, W, 3] in reflectance, NaN where a band has no data; `hidden` [H, W] by cloud or shadow."""

    date: np.datetime64
    image: NDArray[np.float32]
    hidden: NDArray[np.bool_]
    hidden_share: float | None


@dataclass(frozen=True)
class Picture:
    """An image [H, W, …] and its caption."""

    caption: str
    image: NDArray[np.float32]


@dataclass(frozen=True)
class TileOverview:
    """A tile's row.

    - `frames`: one for each part of the period (None: no acquisition in it); `cloudy`: a partly cloudy one.
    - `radar`: in dB; `vegetation`: a vegetation index; each None if the bands do not allow it.
    - `shares` [T, classes]: of `STRIP_CLASSES` at `dates`.
    - `index` [T]: median vegetation index of clear pixels, NaN if there are few.
    - `bad` [T]: frames that the source lists as bad.
    """

    tile_id: str
    size: tuple[int, int]
    facts: str
    composite: Composite
    frames: tuple[FramePicture | None, ...]
    cloudy: FramePicture | None
    radar: Picture | None
    vegetation: Picture | None
    dates: NDArray[np.datetime64]
    shares: NDArray[np.float64]
    index_name: str | None
    index: NDArray[np.float64]
    bad: NDArray[np.bool_]
    radar_dates: dict[str, NDArray[np.datetime64]]


def parts_of(period: tuple[np.datetime64, np.datetime64], count: int) -> NDArray[np.datetime64]:
    """The boundaries [count + 1] of equal parts of a period, including both ends."""
    first, last = (end.astype("datetime64[D]").astype(np.int64) for end in period)
    return np.linspace(first, last + 1, count + 1).round().astype("datetime64[D]")


def overview_of(store: TileStore, tile_id: str, borders: NDArray[np.datetime64]) -> TileOverview:
    """Summarises one tile of a store, with the clearest frame of each part of the period between `borders`.

    Raises:
        UserError: there is no such tile, or a file is damaged.
    """
    tile = store.load(tile_id, layers=("clouds", BAD_FRAMES))
    series = tile.series()
    optical = series.optical
    shares = _shares(series)
    hidden_share = shares.sum(axis=1)
    composite = natural_composite(optical.bands)
    chosen = [_clearest(optical.dates, hidden_share, first, end) for first, end in pairwise(borders)]
    name, index = _vegetation(series)
    clear = np.ones(index.shape, bool) if series.clouds is None else series.clouds == CLEAR
    clear_index = np.where(clear, index, np.nan)
    known = np.isfinite(clear_index).mean(axis=(1, 2)) >= _ENOUGH_CLEAR
    curve = np.full(len(index), np.nan)
    curve[known] = np.nanmedian(clear_index[known], axis=(1, 2))
    greenest = _greenest(clear_index)
    return TileOverview(
        tile_id=tile_id,
        size=series.size,
        facts=_facts(store, tile_id),
        composite=composite,
        frames=tuple(_frame(series, composite, at, hidden_share) for at in chosen),
        cloudy=_frame(series, composite, _half_cloudy(shares[:, :-1].sum(axis=1)), hidden_share),
        radar=_radar(series, optical.dates[greenest] if greenest is not None else None),
        vegetation=(
            Picture(f"{name} {optical.dates[greenest]}", index[greenest].astype(np.float32))
            if name and greenest is not None
            else None
        ),
        dates=optical.dates,
        shares=shares,
        index_name=name,
        index=curve,
        bad=tile.layers[BAD_FRAMES].decode() > 0 if BAD_FRAMES in tile.layers else np.zeros(len(optical), bool),
        radar_dates={track: radar.dates for track, radar in series.radar.items()},
    )


def _shares(series: TileSeries) -> NDArray[np.float64]:
    """Shares [T, classes]; a pixel that lacks a band counts as no data, whatever its mask says."""
    lacking = (series.optical.values == NO_DATA).any(axis=1)
    shares = np.zeros((len(series.optical), len(STRIP_CLASSES)))
    for column, value in enumerate(STRIP_CLASSES.values()):
        shares[:, column] = 0 if series.clouds is None else ((series.clouds == value) & ~lacking).mean(axis=(1, 2))
    shares[:, -1] += lacking.mean(axis=(1, 2))
    return shares


def _clearest(
    dates: NDArray[np.datetime64], hidden_share: NDArray[np.float64], first: np.datetime64, end: np.datetime64
) -> int | None:
    """The clearest of the frames from `first` until before `end`; among equals the one closest to the middle."""
    inside = np.flatnonzero((dates >= first) & (dates < end))
    if not len(inside):
        return None
    from_middle = np.abs((dates[inside] - first) - (end - first) / 2).astype(float)
    return int(inside[np.lexsort((from_middle, hidden_share[inside].round(2)))[0]])


def _half_cloudy(cloud_share: NDArray[np.float64]) -> int | None:
    """The frame closest to half cloudy, if any is cloudy at all."""
    return int(np.argmin(np.abs(cloud_share - 0.5))) if (cloud_share > 0).any() else None


def _frame(
    series: TileSeries, composite: Composite, at: int | None, hidden_share: NDArray[np.float64]
) -> FramePicture | None:
    if at is None:
        return None
    stored = series.optical.values[at : at + 1]
    image = np.where(stored == NO_DATA, np.nan, stored.astype(np.float32) / REFLECTANCE_SCALE)
    hidden = np.zeros(series.size, bool)
    if series.clouds is not None:
        hidden = (series.clouds[at] != CLEAR) & (series.clouds[at] != CLOUD_NO_DATA)
    return FramePicture(
        date=series.optical.dates[at],
        image=composite.pick(image, series.optical.bands)[0].astype(np.float32),
        hidden=hidden,
        hidden_share=None if series.clouds is None else float(hidden_share[at]),
    )


def _vegetation(series: TileSeries) -> tuple[str | None, NDArray[np.float64]]:
    """(name, index [T, H, W]); None and NaN if the bands allow no index."""
    bands = [band for band in _INDEX_BANDS if band in series.optical.bands]
    stored = series.optical.values[:, [series.optical.bands.index(band) for band in bands]]
    found = vegetation_index(np.where(stored == NO_DATA, np.nan, stored.astype(np.float32)), bands)
    return found or (None, np.full((len(series.optical), *series.size), np.nan))


def _greenest(index: NDArray[np.float64]) -> int | None:
    """The frame with the highest vegetation index among those nearly as clear as the clearest."""
    known = np.isfinite(index).mean(axis=(1, 2))
    if not known.any():
        return None
    candidates = np.flatnonzero((known >= known.max() - 0.05) & (known > 0))
    means = [np.nanmean(index[at]) for at in candidates]
    return int(candidates[int(np.argmax(means))])


def _radar(series: TileSeries, near: np.datetime64 | None) -> Picture | None:
    """The acquisition of the first track that is closest to a date: VV, VH and VV−VH in dB."""
    if not series.radar:
        return None
    track, radar = next(iter(series.radar.items()))
    if not len(radar):
        return None
    at = len(radar) // 2 if near is None else int(np.argmin(np.abs(radar.dates - near)))
    vv, vh = (
        np.where(
            radar.values[at, radar.bands.index(band)] == NO_DATA, np.nan, radar.values[at, radar.bands.index(band)]
        )
        / DECIBEL_SCALE
        for band in ("VV", "VH")
    )
    return Picture(f"{track} {radar.dates[at]}", np.stack([vv, vh, vv - vh], axis=-1).astype(np.float32))


def _facts(store: TileStore, tile_id: str) -> str:
    record = store.record(tile_id)
    sides = pixel_size_of(record)
    metres = "" if sides is None else f" of {shown_sides(sides)} m"
    facts = [
        f"{record.size[0]}×{record.size[1]} pixels{metres}",
        f"{len(record.optical.bands)} band{'s' * (len(record.optical.bands) != 1)}",
        f"{record.optical.frames} optical",
        *(f"{radar.frames} {track}" for track, radar in record.radar.items()),
    ]
    if record.clouds is None:
        facts.append("no cloud masks")
    else:
        facts.append(f"{record.clouds.cloud_share:.0%} cloud and shadow")
    if record.fold is not None:
        facts.append(f"fold {record.fold}")
    if record.crs and len(record.crs) <= 20:
        facts.append(record.crs)
    return " · ".join(facts)

"""How hazy each acquisition is where its mask says clear: thin cloud that a scene classification missed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restore_dit.series import CLEAR, NO_DATA, REFLECTANCE_SCALE, Acquisitions

HAZE_BANDS = ("B02", "B03", "B04", "B05")
"""Haze brightens the shortest wavelength most: the first of these that a tile has is looked at."""

SEASON_DAYS = 60
"""Acquisitions that are no farther away say what is usual at the time of year …"""

FEWEST = 8
"""… and so many of the nearest in any case, clear to some part."""

USUAL = 0.25
"""Quantile over time of a pixel's clear values that is usual: most dates may be a little hazy."""

UPPER = 0.75
"""Quantile over a frame's clear pixels of what is more than usual: haze that lies over a quarter of them counts."""

MOST_PIXELS = 1024
"""Of a tile, on a regular grid; of a frame that shows nothing clear there, among its clear ones."""


def frame_haze(optical: Acquisitions, clouds: NDArray[np.uint8]) -> tuple[float | None, ...]:
    """Of each acquisition how much brighter at least a quarter of its clear pixels are than the tile's own usual clear
    ground, in reflectance to four digits; None without a clear pixel, or without a band of `HAZE_BANDS`.

    With B02 and B04 it is 2·B02 − B04 that is compared: white haze of reflectance x adds x to it, while bare or dry
    ground, whose red brightens about twice as much as its blue, adds nothing (Zhang et al. 2002, haze optimised
    transform). Other tiles are compared in the shortest wavelength alone, where a harvest looks like some haze, too.

    Args:
        optical: T acquisitions of H×W pixels.
        clouds: their masks, uint8 [T, H, W].
    """
    height, width = clouds.shape[1:]
    stride = int(np.ceil(np.sqrt(height * width / MOST_PIXELS))) or 1
    haze: list[float | None] = [None] * len(optical)
    if not optical.values.size or not set(HAZE_BANDS) & set(optical.bands):
        return tuple(haze)
    days = optical.dates.astype("datetime64[D]").astype(np.int64)
    values = _clear_values(optical.values[:, :, ::stride, ::stride], optical.bands, clouds[:, ::stride, ::stride])
    for frame in range(len(optical)):
        if (values[:, frame] != _MISSING).any():
            haze[frame] = _haze_of(frame, values, days)
        elif stride > 1:
            # What is clear may be little, and lie between the points of the grid.
            clear = (clouds[frame] == CLEAR) & (optical.values[frame] != NO_DATA).all(axis=0)
            rows, columns = (places[:: -(-len(places) // MOST_PIXELS) or 1] for places in np.nonzero(clear))
            if len(rows):
                there = _clear_values(optical.values[:, :, rows, columns], optical.bands, clouds[:, rows, columns])
                haze[frame] = _haze_of(frame, there, days)
    return tuple(haze)


_MISSING = np.int32(2**31 - 1)


def _haze_of(frame: int, values: NDArray[np.int32], days: NDArray[np.int64]) -> float:
    """From `values` [pixels, T] the haze of a frame of which at least one is not missing."""
    pixels = values[:, frame] != _MISSING
    looked_at = np.flatnonzero((values != _MISSING).any(axis=0))
    others = looked_at[_of_season(np.abs(days[looked_at] - days[frame]))]
    excess = values[pixels, frame] - _usual(values[pixels][:, others])
    return round(float(np.quantile(excess, UPPER)) / REFLECTANCE_SCALE, 4)


def _clear_values(stored: NDArray[np.int16], bands: tuple[str, ...], clouds: NDArray[np.uint8]) -> NDArray[np.int32]:
    """What haze brightens and soil does not, in reflectance × 10000, of some pixels [T, C, …] where they are clear and
    have data: [pixels, T]. The values of one pixel lie together, the missing ones last when they are sorted."""

    def band(name: str) -> NDArray[np.int32]:
        return stored[:, bands.index(name)].astype(np.int32)

    if {"B02", "B04"} <= set(bands):
        brightness = 2 * band("B02") - band("B04")
    else:
        brightness = band(next(name for name in HAZE_BANDS if name in bands))
    known = (clouds == CLEAR) & (stored != NO_DATA).all(axis=1)
    return np.where(known, brightness, _MISSING).reshape(len(stored), -1).T.copy()


def _of_season(distance: NDArray[np.int64]) -> NDArray[np.intp]:
    """Of acquisitions so many days away those that say what is usual; they count as one distance where equally far."""
    farthest = max(SEASON_DAYS, int(np.sort(distance)[:FEWEST][-1]))
    return np.flatnonzero(distance <= farthest)


def _usual(values: NDArray[np.int32]) -> NDArray[np.int32]:
    """The lower quantile of each row [pixels, n], of which at least one value is not missing."""
    ordered = np.sort(values, axis=1)
    counts = (values != _MISSING).sum(axis=1)
    return ordered[np.arange(len(values)), ((counts - 1) * USUAL).astype(np.intp)]

"""How hazy each acquisition is where its mask says clear: thin cloud that a scene classification missed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restore_dit.series import CLEAR, NO_DATA, REFLECTANCE_SCALE, Acquisitions

HAZE_BANDS = ("B02", "B03", "B04", "B05")
"""Haze brightens the shortest wavelengths most: the first of these bands that a tile has is used."""

SEASON_DAYS = 60
"""Acquisitions within this many days define what is usual for the season …"""

MIN_FRAMES = 8
"""… or at least this many of the nearest ones with any clear pixels."""

USUAL = 0.25
"""Quantile over time of a pixel's clear values that counts as usual: most dates may be slightly hazy."""

UPPER = 0.75
"""Quantile, over a frame's clear pixels, of the excess above usual: haze counts if it covers a quarter of them."""

MAX_PIXELS = 1024
"""Maximum number of pixels evaluated per tile, on a regular grid; if none of them is clear in a frame, of its clear
pixels."""


def frame_haze(optical: Acquisitions, clouds: NDArray[np.uint8]) -> tuple[float | None, ...]:
    """For each acquisition, the excess reflectance that at least a quarter of its clear pixels have over the tile's
    usual clear ground, to four decimals; None without a clear pixel or without any of `HAZE_BANDS`.

    With B02 and B04, 2·B02 − B04 is compared: white haze of reflectance x increases it by x, while bare or dry ground,
    whose red brightens about twice as much as its blue, does not change it (haze optimised transform, Zhang et al.
    2002). For other tiles only the shortest wavelength is compared, in which a harvest also looks like some haze.

    Args:
        optical: T acquisitions of H×W pixels.
        clouds: their masks, uint8 [T, H, W].
    """
    height, width = clouds.shape[1:]
    stride = int(np.ceil(np.sqrt(height * width / MAX_PIXELS))) or 1
    haze: list[float | None] = [None] * len(optical)
    if not optical.values.size or not set(HAZE_BANDS) & set(optical.bands):
        return tuple(haze)
    days = optical.dates.astype("datetime64[D]").astype(np.int64)
    values = _clear_values(optical.values[:, :, ::stride, ::stride], optical.bands, clouds[:, ::stride, ::stride])
    for frame in range(len(optical)):
        if (values[:, frame] != _MISSING).any():
            haze[frame] = _haze_of(frame, values, days)
        elif stride > 1:
            # The clear area may be small and lie between the points of the grid.
            clear = (clouds[frame] == CLEAR) & (optical.values[frame] != NO_DATA).all(axis=0)
            rows, columns = (places[:: -(-len(places) // MAX_PIXELS) or 1] for places in np.nonzero(clear))
            if len(rows):
                there = _clear_values(optical.values[:, :, rows, columns], optical.bands, clouds[:, rows, columns])
                haze[frame] = _haze_of(frame, there, days)
    return tuple(haze)


_MISSING = np.int32(2**31 - 1)


def _haze_of(frame: int, values: NDArray[np.int32], days: NDArray[np.int64]) -> float:
    """The haze of a frame from `values` [pixels, T], of which at least one is valid in this frame."""
    pixels = values[:, frame] != _MISSING
    clear_frames = np.flatnonzero((values != _MISSING).any(axis=0))
    others = clear_frames[_of_season(np.abs(days[clear_frames] - days[frame]))]
    excess = values[pixels, frame] - _usual(values[pixels][:, others])
    return round(float(np.quantile(excess, UPPER)) / REFLECTANCE_SCALE, 4)


def _clear_values(stored: NDArray[np.int16], bands: tuple[str, ...], clouds: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The brightness that haze increases and soil does not, in reflectance × 10000, of pixels [T, C, …] where they are
    clear and have data: [pixels, T]. The values of one pixel are contiguous, and missing ones sort last."""

    def band(name: str) -> NDArray[np.int32]:
        return stored[:, bands.index(name)].astype(np.int32)

    if {"B02", "B04"} <= set(bands):
        brightness = 2 * band("B02") - band("B04")
    else:
        brightness = band(next(name for name in HAZE_BANDS if name in bands))
    known = (clouds == CLEAR) & (stored != NO_DATA).all(axis=1)
    return np.where(known, brightness, _MISSING).reshape(len(stored), -1).T.copy()


def _of_season(distance: NDArray[np.int64]) -> NDArray[np.intp]:
    """Indices of the acquisitions that define what is usual, from their `distance` in days; ties are included."""
    farthest = max(SEASON_DAYS, int(np.sort(distance)[:MIN_FRAMES][-1]))
    return np.flatnonzero(distance <= farthest)


def _usual(values: NDArray[np.int32]) -> NDArray[np.int32]:
    """The lower quantile of each row of [pixels, n]; each row has at least one valid value."""
    # By sorting, since missing values sort last, which spares a slow quantile that skips NaN.
    ordered = np.sort(values, axis=1)
    counts = (values != _MISSING).sum(axis=1)
    return ordered[np.arange(len(values)), ((counts - 1) * USUAL).astype(np.intp)]

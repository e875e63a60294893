"""Sums over a tile's pixels, from which the mean and standard deviation of any set of tiles can be computed."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from restore_dit.config import Section
from restore_dit.series import CLEAR, DECIBEL_SCALE, NO_DATA, REFLECTANCE_SCALE, Acquisitions

RATIO = "VV-VH"
"""The radar channel derived from the two stored ones: their difference in dB."""


class BandSums(Section):
    """Count, sum and sum of squares of one band, in reflectance or dB."""

    count: int = 0
    sum: float = 0.0
    sum_of_squares: float = 0.0

    def __add__(self, other: BandSums) -> BandSums:
        return BandSums(
            count=self.count + other.count,
            sum=self.sum + other.sum,
            sum_of_squares=self.sum_of_squares + other.sum_of_squares,
        )

    @property
    def mean(self) -> float:
        """Mean in reflectance or dB; NaN without pixels."""
        return self.sum / self.count if self.count else math.nan

    @property
    def std(self) -> float:
        """Population standard deviation; NaN without pixels."""
        if not self.count:
            return math.nan
        return math.sqrt(max(self.sum_of_squares / self.count - self.mean**2, 0.0))


Sums = dict[str, BandSums]
"""Band → its sums."""


def optical_sums(optical: Acquisitions, clouds: NDArray[np.uint8] | None) -> Sums:
    """Sums in reflectance over pixels that are valid and, if clouds are known, clear."""
    clear = None if clouds is None else clouds == CLEAR
    return {band: _sums(optical.values[:, index], clear, REFLECTANCE_SCALE) for index, band in enumerate(optical.bands)}


def radar_sums(radar: Acquisitions) -> Sums:
    """Sums in dB over valid pixels, including the derived VV-VH where both are valid."""
    sums = {band: _sums(radar.values[:, index], None, DECIBEL_SCALE) for index, band in enumerate(radar.bands)}
    if {"VV", "VH"} <= set(radar.bands):
        vv, vh = (radar.values[:, radar.bands.index(band)].astype(np.int32) for band in ("VV", "VH"))
        both = (vv != NO_DATA) & (vh != NO_DATA)
        sums[RATIO] = _sums(vv - vh, both, DECIBEL_SCALE)
    return sums


def merge_sums(parts: Iterable[Sums]) -> Sums:
    """The sums over several tiles, band by band."""
    total: Sums = {}
    for part in parts:
        for band, sums in part.items():
            total[band] = total.get(band, BandSums()) + sums
    return total


def _sums(stored: NDArray[np.integer], where: NDArray[np.bool_] | None, scale: int) -> BandSums:
    valid = stored != NO_DATA
    # Summed as integers, so that sums do not depend on the order of pixels.
    values = stored[valid if where is None else valid & where].astype(np.int64)
    return BandSums(
        count=len(values),
        sum=int(values.sum()) / scale,
        sum_of_squares=int((values * values).sum()) / scale**2,
    )

"""Vegetation indices of a series and, where it has an ensemble, how far the index of a filled pixel may be wrong.

The errors of two bands are correlated: haze brightens both, and green leaves darken one while they brighten the other.
So the standard deviation of an index is that over the members of an ensemble; adding those of the bands as if they were
independent makes it too large.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from restore_dit.errors import UserError
from restore_dit.series import NO_DATA, REFLECTANCE_SCALE, SAMPLES, UNCERTAINTY, TileSeries

INDICES = {"NDVI": ("B08", "B04"), "NDVI (B8A)": ("B8A", "B04"), "NDRE": ("B8A", "B05")}
"""Band pairs of normalised differences (first − second)/(first + second) that indicate vegetation, in order of
preference."""

INDEX_SAMPLES = 16
"""Members that are drawn where an index is wanted but no ensemble. Their standard deviation is within 18 % of that of
an infinite number (one standard error)."""


def pair_of(name: str, bands: Sequence[str]) -> tuple[str, str]:
    """The two bands from which the index `name`, ndvi or ndre in any case, is computed.

    Raises:
        UserError: there is no such index, or the bands lack one that it needs.
    """
    pairs = [pair for index, pair in INDICES.items() if index.split()[0] == name.upper()]
    if not pairs:
        known = dict.fromkeys(index.split()[0].lower() for index in INDICES)
        raise UserError(f"indices: {name!r} is not known; there are {', '.join(known)}")
    for pair in pairs:
        if set(pair) <= set(bands):
            return pair
    needed = " or ".join(" and ".join(pair) for pair in pairs)
    raise UserError(f"indices: {name} needs {needed}; there are {', '.join(bands)}")


def index_layers(series: TileSeries, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """The indices of a series [T, H, W] by name, such as `NDVI`, and the standard deviations over the members of its
    ensemble, if it has one of several, as `NDVI_uncertainty`. They are 0 where a pixel is observed, and NaN where the
    index is: if both bands are 0 or there are no data.

    The index is that of the filled values: its error is no larger than that of the mean over the members.

    Raises:
        UserError: there is no such index, or the series lacks a band that it needs.
    """
    bands, found = series.optical.bands, {}
    for name in dict.fromkeys(name.upper() for name in names):
        pair = pair_of(name, bands)
        found[name] = normalised_difference(_reflectance(series.optical.values), bands, *pair)
        if SAMPLES in series.layers and series.layers[SAMPLES].shape[1] > 1:
            spread = index_spread(series.layers[SAMPLES], bands, pair)
            found[f"{name}_{UNCERTAINTY}"] = np.where(np.isnan(found[name]), np.nan, spread)
    return found


def index_spread(samples: NDArray[np.integer], bands: Sequence[str], pair: tuple[str, str]) -> NDArray[np.float64]:
    """The standard deviation [T, H, W] of a normalised difference over the K members of an ensemble, [T, K, C, H, W] in
    stored units; NaN where fewer than two members have one."""
    members = (normalised_difference(_reflectance(of_date), bands, *pair) for of_date in samples)
    return np.stack([_deviation(of_date) for of_date in members])


def vegetation_index(values: NDArray[np.floating], bands: Sequence[str]) -> tuple[str, NDArray[np.float64]] | None:
    """(name, index [T, H, W]) from reflectance [T, C, H, W]; None if the bands allow no index."""
    name = next((name for name, pair in INDICES.items() if set(pair) <= set(bands)), None)
    return None if name is None else (name, normalised_difference(values, bands, *INDICES[name]))


def normalised_difference(
    values: NDArray[np.floating], bands: Sequence[str], first: str, second: str
) -> NDArray[np.float64]:
    """(first − second)/(first + second) [T, H, W] from reflectance [T, C, H, W]; NaN where the sum is not positive or
    unknown."""
    one, other = (values[:, list(bands).index(band)].astype(np.float64) for band in (first, second))
    total = one + other
    return np.divide(one - other, total, out=np.full_like(total, np.nan), where=total > 0)


def _deviation(members: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard deviation over the members [K, H, W] that have an index: over dark ground, both bands of some are 0.
    NaN where fewer than two have one."""
    known = ~np.isnan(members)
    count = known.sum(axis=0)
    above = np.where(known, members - np.fmin.reduce(members), 0)  # so that equal members differ by exactly 0
    squares = np.where(known, above - above.sum(axis=0) / np.maximum(count, 1), 0) ** 2
    return np.sqrt(np.where(count > 1, squares.sum(axis=0) / np.maximum(count - 1, 1), np.nan))


def _reflectance(stored: NDArray[np.integer]) -> NDArray[np.float64]:
    return np.where(stored == NO_DATA, np.nan, stored / REFLECTANCE_SCALE)

"""A tile's clear reference: the expected cloud-free reflectance on each date, estimated from the other dates without
any mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]

# In the shortest wavelengths, ground changes least and cloud stands out most. From red onwards, soil is bright too, but
# unlike cloud it is even brighter around 1.6 and 2.2 µm, so a share of those bands is subtracted.
_CLOUD_BANDS = {"B02": 0.0, "B03": 0.25, "B04": 0.5, "B05": 0.5, "B06": 0.5, "B07": 0.5, "B08": 0.5, "B8A": 0.5}
_SOIL_BANDS = ("B11", "B12")
# A harvest darkens the near infrared but brightens the short-wave infrared; only shadow and water darken their sum.
_SHADOW_BANDS = (("B8A", "B08", "B07", "B06"), ("B11", "B12"))

_NEAREST = 12  # number of nearest dates (before and after a frame) that are all used; farther ones are thinned out
_GROWTH = 1.2  # ratio of the ranks of successive dates among the farther ones
_DAYS = 12.0  # distance in time at which the weight of a date has fallen to one half
_GROUND_RANK = 0.2  # quantile of brightness that is taken for ground
_HAZE, _CLOUD = 0.025, 0.07  # reflectance above ground at which a date's weight starts to fall, and at which it is 0
_PENUMBRA, _SHADE = 0.8, 0.6  # the same for infrared brightness, as a share of the mean
_RIDGE = 15.0  # days; regularises the slope if all dates lie on one side
_PIXELS = 4096  # pixels processed at a time, so that the working set fits into the CPU cache


def clear_reference(values: Values, dates: NDArray[np.datetime64], bands: Sequence[str]) -> Values:
    """Cloud-free reflectance expected on each date from the *other* dates, float32 [T, C, H, W].

    Args:
        values: reflectance [T, C, H, W], NaN where there are no data.
        dates: datetime64 [T], ascending.
        bands: names of the C channels.

    Among the dates around a frame, a pixel's 20th percentile of brightness is taken for ground. Brightness is the
    shortest wavelength; without B02, a share of B11 or B12, if there is one, is subtracted to distinguish bare soil
    from cloud. Dates that are clearly brighter are cloud; of the others, those whose near plus short-wave infrared is
    far below its mean are shadow. A line in time is fitted to the remaining dates, with the largest weights for near
    dates, and evaluated at the frame's date. Since only the percentile has to be clear, up to three quarters of the
    dates may be cloudy. Transient snow counts as cloud.

    A frame is never part of its own reference. Pixels without data on all dates considered are NaN. If all of these
    dates are cloudy, the reference shows the least bright ones.
    """
    frames, _, height, width = values.shape
    reference = np.full_like(values, np.nan)
    if frames < 2:
        return reference
    known = ~np.isnan(values).any(axis=1).reshape(frames, -1)
    flat = values.reshape(frames, len(bands), -1)
    cloud_bands = _cloud_bands(bands)
    shadow_bands = [
        bands.index(next(b for b in group if b in bands)) for group in _SHADOW_BANDS if set(group) & {*bands}
    ]
    neighbours = [_neighbours(frame, dates) for frame in range(frames)]
    target = reference.reshape(frames, len(bands), -1)
    for start in range(0, height * width, _PIXELS):
        pixels = slice(start, start + _PIXELS)
        observed = known[:, pixels]
        block = np.where(observed[:, None], flat[:, :, pixels], 0)
        brightness = np.where(observed, sum(share * block[:, band] for band, share in cloud_bands.items()), np.inf)
        infrared = block[:, shadow_bands or [*cloud_bands][:1]].sum(axis=1)
        for frame, (others, days) in enumerate(neighbours):
            weights = _clear_weights(brightness[others], infrared[others], days)
            np.einsum("tp,tcp->cp", _line_at_zero(weights, days), block[others], out=target[frame, :, pixels])
            target[frame][:, pixels][:, ~observed[others].any(axis=0)] = np.nan
    return reference


def _cloud_bands(bands: Sequence[str]) -> dict[int, float]:
    """Channels, and their factors, of the sum of reflectances by which cloud is recognised."""
    first = next((band for band in _CLOUD_BANDS if band in bands), bands[0])
    soil = next((band for band in _SOIL_BANDS if band in bands and band != first), None)
    factors = {bands.index(first): 1.0}
    if soil and _CLOUD_BANDS.get(first):
        factors[bands.index(soil)] = -_CLOUD_BANDS[first]
    return factors


def _neighbours(frame: int, dates: NDArray[np.datetime64]) -> tuple[NDArray[np.intp], Values]:
    """Indices [N] of the other dates that a frame's reference uses, and their distance from it in days. All near dates
    are used, and farther ones increasingly sparsely, since they only matter where the near ones are cloudy."""
    days = ((dates - dates[frame]) / np.timedelta64(1, "D")).astype(np.float32)
    order = np.argsort(np.abs(days), kind="stable")
    order = order[order != frame]
    places, place = list(range(min(_NEAREST, len(order)))), float(_NEAREST)
    while place < len(order):
        places.append(int(place))
        place = max(place + 1, place * _GROWTH)
    chosen = np.sort(order[places])
    return chosen, days[chosen]


def _clear_weights(brightness: Values, infrared: Values, days: Values) -> Values:
    """Weight [N, P] of each date and pixel as an observation of the ground: 0 if cloudy, in shadow or without data."""
    ranked = np.sort(brightness.T, axis=1)
    observed = np.isfinite(ranked).sum(axis=1, keepdims=True)
    ground = np.take_along_axis(ranked, (observed * _GROUND_RANK).astype(np.intp), axis=1).T
    ground[~np.isfinite(ground)] = 0
    weights = ((ground + _CLOUD - brightness) / (_CLOUD - _HAZE)).clip(0, 1)
    weights *= (1 / (1 + (days / _DAYS) ** 2))[:, None]
    mean = (weights * infrared).sum(axis=0) / np.maximum(weights.sum(axis=0), np.finfo(np.float32).tiny)
    weights *= ((infrared - _SHADE * mean) / ((_PENUMBRA - _SHADE) * mean + 1e-3)).clip(0, 1)
    return weights


def _line_at_zero(weights: Values, days: Values) -> Values:
    """Weights [N, P] of the values on the given days in their weighted regression line at day 0. If the line would be
    extrapolated, the farthest dates would get negative weights, which are set to 0."""
    total = weights.sum(axis=0)
    moment, square = days @ weights, (days**2) @ weights
    square += _RIDGE**2 * total
    local = weights * (square - days[:, None] * moment).clip(0)
    return local / np.maximum(local.sum(axis=0), np.finfo(np.float32).tiny)

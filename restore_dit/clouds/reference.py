"""A tile's clear reference: what its ground looks like on each of its dates, without cloud and shadow, by what the
other dates show. No mask is needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]

# Ground changes least, and cloud shows most, in the shortest wavelengths. From red on soil is bright too, but brighter
# still around 1.6 and 2.2 µm, where clouds are not: a share of that is taken off.
_CLOUD_BANDS = {"B02": 0.0, "B03": 0.25, "B04": 0.5, "B05": 0.5, "B06": 0.5, "B07": 0.5, "B08": 0.5, "B8A": 0.5}
_SOIL_BANDS = ("B11", "B12")
# A harvest darkens the near infrared and brightens the short-wave infrared: only shadow and water darken their sum.
_SHADOW_BANDS = (("B8A", "B08", "B07", "B06"), ("B11", "B12"))

_NEAREST = 12  # dates on either side of a frame, together, that all count; beyond them ever fewer
_GROWTH = 1.2  # from each date that counts to the next one that does, in dates
_DAYS = 12.0  # at which a date weighs half as much as one at hand
_GROUND_RANK = 0.2  # in ascending brightness, of the date that is taken for ground
_HAZE, _CLOUD = 0.025, 0.07  # reflectance above it at which a date begins to weigh less, and weighs nothing
_PENUMBRA, _SHADE = 0.8, 0.6  # the same for brightness as a share of the mean
_RIDGE = 15.0  # days; keeps the slope small where the dates lie all on one side
_PIXELS = 4096  # at once, so that what is at work stays in the processor's cache


def clear_reference(values: Values, dates: NDArray[np.datetime64], bands: Sequence[str]) -> Values:
    """What the ground of each pixel looks like on each date by the *other* dates, float32 [T, C, H, W].

    values: reflectance [T, C, H, W], NaN where there is no data; dates: datetime64 [T] ascending; bands: C names.

    Among the dates around a frame the pixel's 20th percentile of brightness in the shortest wavelength (without B02 and
    with B11 or B12: less a share of that, which tells bare soil from cloud) is taken for ground. What is clearly
    brighter there is cloud; of the rest, what is much darker than its mean in near plus short-wave infrared is shadow.
    A line in time is fitted to what remains, near dates weighing most, and read off at the frame's date. Since only
    the percentile has to be clear, three dates in four may be cloudy. Snow that comes and goes counts as cloud.

    A frame never enters its own reference. A pixel without data on any of the dates looked at is NaN; where all
    of them are cloudy the reference shows the least bright.
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
    """What clouds are told by: channels and the factors with which they add up."""
    first = next((band for band in _CLOUD_BANDS if band in bands), bands[0])
    soil = next((band for band in _SOIL_BANDS if band in bands and band != first), None)
    factors = {bands.index(first): 1.0}
    if soil and _CLOUD_BANDS.get(first):
        factors[bands.index(soil)] = -_CLOUD_BANDS[first]
    return factors


def _neighbours(frame: int, dates: NDArray[np.datetime64]) -> tuple[NDArray[np.intp], Values]:
    """The other dates that a frame's reference looks at, [N], and their days from it: all near ones, and ever fewer of
    those farther away, which have their say only where the near ones are cloudy."""
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
    """How much each date [N, P] says of the ground: nothing where it is cloudy, dark or without data."""
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
    """Weights [N, P] with which the values on the given days add up to their regression line at day 0. Where the line
    would run on beyond the dates, those farthest away would weigh less than nothing; they weigh nothing."""
    total = weights.sum(axis=0)
    moment, square = days @ weights, (days**2) @ weights
    square += _RIDGE**2 * total
    local = weights * (square - days[:, None] * moment).clip(0)
    return local / np.maximum(local.sum(axis=0), np.finfo(np.float32).tiny)

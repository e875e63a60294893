"""Random fields that look like the errors of a filled series: of variance 1, and correlated in space, bands and time as
the errors of the shipped model are, in units of their standard deviations.

Half of the variance of an error is common to a whole frame, 7 % is particular to a pixel, and the rest extends over 15
to 240 m. Every value is a function of seed, date, row, column and band alone: noise lies at the knots of lattices
anchored to the first pixel and to 1970, and is interpolated by Gaussian kernels.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from restore_dit.diffusion.noise import chained, field_noise, mixed
from restore_dit.series import S2_BANDS

_OF_FRAMES = """
 1.00
 0.86  1.00
 0.85  0.87  1.00
 0.71  0.95  0.83  1.00
 0.59  0.88  0.68  0.96  1.00
 0.56  0.86  0.66  0.94  0.99  1.00
 0.56  0.86  0.68  0.94  0.99  0.99  1.00
 0.58  0.87  0.70  0.95  0.99  0.99  0.99  1.00
 0.51  0.69  0.70  0.80  0.77  0.78  0.80  0.81  1.00
 0.55  0.66  0.72  0.75  0.70  0.72  0.73  0.74  0.90  1.00
"""
"""Correlation of the mean errors of hidden frames between `S2_BANDS`: haze and the direction of view act alike on
neighbouring bands."""

_WITHIN_FRAMES = """
 1.00
 0.71  1.00
 0.71  0.69  1.00
 0.62  0.77  0.61  1.00
 0.21  0.43  0.00  0.53  1.00
 0.12  0.33 -0.08  0.43  0.97  1.00
 0.09  0.33 -0.09  0.36  0.80  0.81  1.00
 0.14  0.35 -0.05  0.47  0.95  0.97  0.82  1.00
 0.44  0.53  0.41  0.71  0.48  0.42  0.37  0.48  1.00
 0.50  0.53  0.56  0.71  0.24  0.16  0.14  0.22  0.91  1.00
"""
"""The same for the remaining errors: where vegetation grows faster than expected, red is too low and near infrared too
high."""

_ROUNDED = 0.01
"""Share of the variance without correlation, which keeps matrices with two decimals positive definite."""


_USUAL_DATES = 12.0
"""Weight of these tables beside the correlation found on the series itself, as a number of dates."""


class BandErrors(NamedTuple):
    """The correlation of errors between `bands` as calibration on the series found it, [C, C], on so many `dates`; 0 if
    there was none."""

    bands: tuple[str, ...]
    correlation: NDArray[np.float64]
    dates: int


class _Part(NamedTuple):
    """A part of the errors: its `reach` in metres (its correlation is exp(−r² / 4·reach²); infinite if it is common to
    a frame, 0 if it is particular to a pixel), its `share` of the variance, the part `lasting` of this share that dates
    have in common, the correlation of its `bands`, and `within` which of them it occurs."""

    reach: float
    share: float
    lasting: float
    bands: str
    within: Literal["all", "sharp", "interpolated"] = "all"


_PARTS = (
    _Part(math.inf, 0.49, 0.15, _OF_FRAMES),
    _Part(240, 0.02, 0.4, _WITHIN_FRAMES),
    _Part(100, 0.14, 0.4, _WITHIN_FRAMES),
    _Part(40, 0.13, 0.4, _WITHIN_FRAMES),
    _Part(15, 0.15, 0.4, _WITHIN_FRAMES),
    _Part(0, 0.07, 0.0, _WITHIN_FRAMES, "sharp"),
    _Part(15, 0.07, 0.0, _WITHIN_FRAMES, "interpolated"),
)
"""Fitted to the errors of the shipped model on entirely hidden frames of ten simulated tiles (seed 555001)."""

_TEN_METRES, _SHARP = ("B02", "B03", "B04", "B08"), 15.0
"""In pixels smaller than `_SHARP` metres, all but these bands are interpolated: they show nothing that is particular to
a pixel."""

_MEMORY = 12.0
"""Days of the lasting parts: their correlation is exp(−Δt² / 4·memory²)."""

_EXTENT = 3.0
"""Distance at which kernels end, in units of their reach."""

_LEAST_REACH = 0.4
"""Reach in pixels below which a part is particular to a pixel."""


def error_fields(
    seed: int,
    member: int,
    days: NDArray[np.integer],
    rows: NDArray[np.integer],
    columns: NDArray[np.integer],
    bands: BandErrors,
    pixel_side: float,
) -> NDArray[np.float32]:
    """Fields [n, C, H, W] of the ensemble's `member`, standard normal at each value.

    days: [n] since 1970-01-01. rows [H], columns [W]: positions of the pixels in the area. bands: among `S2_BANDS`.
    pixel_side: metres.
    """
    order = [S2_BANDS.index(band) for band in bands.bands]
    fields = np.zeros((len(days), len(order), len(rows), len(columns)), np.float32)
    sharp = np.array([band in _TEN_METRES or pixel_side > _SHARP for band in bands.bands])
    chosen = {"all": sharp | ~sharp, "sharp": sharp, "interpolated": ~sharp}
    for number, part in enumerate(_PARTS):
        within, reach = chosen[part.within], part.reach / pixel_side
        if not within.any():
            continue
        down, across = (_lattice(places, 0.0 if reach < _LEAST_REACH else reach) for places in (rows, columns))
        factor = _factor(part.bands, bands)[within]
        for kind, share in enumerate((1 - part.lasting, part.lasting)):
            if not share:
                continue
            along = _lattice(days, _MEMORY if kind else 0.0)
            own_seed = int(_seed(seed, member, 2 * number + kind))
            white = field_noise(own_seed, along.knots, down.knots, across.knots, len(S2_BANDS))[:, order]
            mixing = (math.sqrt(share * part.share) * factor).astype(np.float32)
            noise: NDArray[np.floating] = np.tensordot(mixing, white, axes=(1, 1))  # [C, days, rows, columns]
            if along.weights is not None:
                noise = np.tensordot(along.weights, noise, axes=(1, 1)).swapaxes(0, 1)
            if down.weights is not None and across.weights is not None:
                noise = down.weights @ noise @ across.weights.T
            fields[:, within] += noise.swapaxes(0, 1)
    return fields


class _Lattice(NamedTuple):
    """Positions of knots [K], and the weights [P, K] that interpolate between them; None if each position is a knot, or
    all share one."""

    knots: NDArray[np.int64]
    weights: NDArray[np.float32] | None


def _lattice(positions: NDArray[np.integer], reach: float) -> _Lattice:
    """The lattice for positions [P] along one axis. The squares of the weights of a position sum to 1."""
    if math.isinf(reach):
        return _Lattice(np.zeros(1, np.int64), None)
    if not reach:
        return _Lattice(positions.astype(np.int64), None)
    first = math.floor(positions.min() / reach - _EXTENT)
    knots = np.arange(first, math.ceil(positions.max() / reach + _EXTENT) + 1)
    distance = positions[:, None] / reach - knots
    weights = np.where(np.abs(distance) <= _EXTENT, np.exp(-(distance**2) / 2), 0)
    weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))
    return _Lattice(knots, weights.astype(np.float32))


def _seed(seed: int, member: int, part: int) -> np.uint64:
    bits = mixed(np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64))
    for coordinate in (member, part):
        bits = chained(bits, np.array([coordinate]))
    return bits[0]


def _factor(table: str, found: BandErrors) -> NDArray[np.floating]:
    """The lower triangular matrix [C, C] that correlates bands as in a table, or as was found on the series, weighted
    by the number of dates."""
    lower = np.zeros((len(S2_BANDS), len(S2_BANDS)))
    lower[np.tril_indices(len(S2_BANDS))] = np.array(table.split(), float)
    order = [S2_BANDS.index(band) for band in found.bands]
    usual = (lower + lower.T - np.eye(len(S2_BANDS)))[np.ix_(order, order)]
    usual = (1 - _ROUNDED) * usual + _ROUNDED * np.eye(len(order))
    weight = found.dates / (found.dates + _USUAL_DATES)
    factor: NDArray[np.floating] = np.linalg.cholesky(weight * found.correlation + (1 - weight) * usual)
    return factor

"""Ensembles: several possible series that agree with what was observed, beside the most likely one.

A network that estimates its uncertainty fills in one step, with the mean. A member of its ensemble is this mean plus an
error field, scaled by the calibrated standard deviation of each value: a Gaussian copula with the network's own
marginals. Sampling the network in several steps would not do: it denoises every pixel by itself, so what
its members differ in is white noise of an eighth of the standard deviation. Other networks have no marginals; a member
is what they fill from noise of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.crs import pixel_sides
from restore_dit.data.examples.normalisation import published_scale_to_stored
from restore_dit.diffusion.noise import chained, mixed
from restore_dit.errors import UserError
from restore_dit.indices import INDEX_SAMPLES, index_spread, pair_of
from restore_dit.reconstruction.calibration import SeriesCalibration
from restore_dit.reconstruction.error_fields import BandErrors, error_fields
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import Acquisitions, Georeference

_PIXEL_SIDE = 10.0
"""Metres; of a series without a position."""

_ROWS = 64
"""Rows of the area for which error fields are made at once, to save memory."""


class Marginals(NamedTuple):
    """What is known about each value of a filled series, on the published scale: `mean` and `deviation` [n, C, H, W],
    and how the errors of its bands are correlated."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    bands: BandErrors


def band_errors(calibration: SeriesCalibration | None, bands: tuple[str, ...]) -> BandErrors:
    """The correlation of the errors of these bands that the calibration found."""
    if calibration is None:
        return BandErrors(bands, np.eye(len(bands)), 0)
    return BandErrors(bands, calibration.correlation, calibration.dates[0])


def members_wanted(model: Model, options: SamplingOptions, indices: Sequence[str]) -> int:
    """Number of members to draw: the samples that are asked for, or some for the uncertainty of indices, if the network
    estimates its own.

    Raises:
        UserError: the mean that the members vary would itself be random.
    """
    sure, steps = model.config.model.predicts_uncertainty, options.solver(model)[1]
    if options.samples and sure and steps > 1:
        raise UserError(
            f"samples={options.samples} with steps={steps}: the members of this model vary the mean, which it fills in "
            "one step: leave steps at 1"
        )
    if options.samples < 2 and indices and sure and steps == 1:  # one member has no standard deviation
        return INDEX_SAMPLES
    return options.samples


def ensemble(
    marginals: Marginals | None,
    gaps: NDArray[np.bool_],
    optical: Acquisitions,
    georeference: Georeference | None,
    options: SamplingOptions,
    again: Callable[[SamplingOptions], NDArray[np.float32]] | None = None,
) -> NDArray[np.int16]:
    """The members of an ensemble, [n, K, C, H, W] in stored units.

    Args:
        marginals: of the bands of `optical`; None if the network does not estimate them.
        gaps: [n, H, W], true where a value was filled; the others are those of `optical` in all members.
        optical: the n dates before filling.
        georeference: tells the size of the pixels; None for 10 m.
        options: their `seed` and number of `samples`.
        again: fills these dates once more with other options, [n, C, H, W] on the published scale; needed without
            marginals.
    """
    drawn = np.repeat(optical.values[:, None], options.samples, axis=1)
    days = optical.dates.astype("datetime64[D]").astype(np.int64)
    (height, width), side = gaps.shape[1:], _pixel_side(georeference, gaps)
    strips = [slice(row, min(row + _ROWS, height)) for row in range(0, height, _ROWS)]
    for member in range(options.samples):
        if marginals is None:
            assert again is not None
            possible = again(replace(options, seed=_own_seed(options.seed, member), samples=0))
            np.copyto(drawn[:, member], published_scale_to_stored(possible), where=gaps[:, None])
            continue
        for rows in strips:
            frames = np.flatnonzero(gaps[:, rows].any(axis=(1, 2)))
            if len(frames):
                places = np.arange(rows.start, rows.stop), np.arange(width)
                errors = error_fields(options.seed, member, days[frames], *places, marginals.bands, side)
                possible = marginals.mean[frames, :, rows] + marginals.deviation[frames, :, rows] * errors
                hidden, seen = gaps[frames, None, rows], optical.values[frames, :, rows]
                drawn[frames, member, :, rows] = np.where(hidden, published_scale_to_stored(possible), seen)
    return drawn


def index_deviation(
    name: str,
    marginals: Marginals,
    gaps: NDArray[np.bool_],
    optical: Acquisitions,
    georeference: Georeference | None,
    seed: int,
) -> NDArray[np.float64]:
    """The standard deviation [n, H, W] of a vegetation index such as `ndvi` over `INDEX_SAMPLES` members, of which only
    the two bands that it needs are drawn. Arguments as for `ensemble`.

    Raises:
        UserError: there is no such index, or the bands lack one that it needs.
    """
    pair = pair_of(name, optical.bands)
    order = [optical.bands.index(band) for band in pair]
    errors = BandErrors(pair, marginals.bands.correlation[np.ix_(order, order)], marginals.bands.dates)
    of_pair = Marginals(marginals.mean[:, order], marginals.deviation[:, order], errors)
    seen = Acquisitions(optical.values[:, order], optical.dates, pair)
    drawn = ensemble(of_pair, gaps, seen, georeference, SamplingOptions(seed=seed, samples=INDEX_SAMPLES))
    return index_spread(drawn, pair, pair)


def _pixel_side(georeference: Georeference | None, gaps: NDArray[np.bool_]) -> float:
    """Side of the pixels in metres, to 0.1 m: coordinates in degrees are not exact."""
    if georeference is None:
        return _PIXEL_SIDE
    return round(sum(pixel_sides(georeference, (gaps.shape[1], gaps.shape[2]))) / 2, 1)


def _own_seed(seed: int, member: int) -> int:
    """The seed of a member that is filled anew."""
    of_seed = mixed(np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64))
    return int(chained(of_seed, np.array([member])).view(np.int64)[0])

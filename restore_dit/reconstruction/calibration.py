"""Calibration on the series to be filled: observed pixels are hidden (`probes`), filled and compared.

The errors determine, for each band, how the model's prediction and linear interpolation are weighted, and how the
predicted standard deviations are rescaled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import ndtri, stdtrit

from restore_dit.data.examples.normalisation import OPTICAL_CEILING
from restore_dit.reconstruction.departures import departures, weight_of
from restore_dit.reconstruction.probes import MIN_PIXELS, Probe
from restore_dit.reconstruction.sampling import Sample, WindowMaker
from restore_dit.reconstruction.tiling import SpatialTile

ScalarT = TypeVar("ScalarT", bound=np.generic)

LEVELS = (0.5, 0.8, 0.95)
"""Nominal coverage of the intervals."""

_MIN_DATES = 4
"""Minimum number of hidden dates for a calibration."""

NOT_CALIBRATED = f"none: fewer than {_MIN_DATES} dates are clear enough to hide a part of them"
"""What results say where a calibration was wanted and there was none."""

_TRUST = 8.0
"""Prior in favour of the model: the cost of α = 0 before any date is tested, in units of the logarithm of a date's mean
squared error. The blocks of a date say less than all of it, so they count only where they agree: 8 equals 24 dates on
which linear interpolation is 1.4 dB better."""

_PRIOR_DATES = 1.0
"""Weight of the prior belief in the model's own standard deviations, as a number of dates."""

_MIN_ERROR = 1e-6
"""Added to mean squares on the published scale to keep their logarithms finite; far below any sensor's noise."""

_RESOLUTION = 0.5 / OPTICAL_CEILING
"""Half a quantisation step of stored reflectance, on the published scale: smaller errors count as this."""

_REFERENCE = LEVELS.index(0.8)
_REACH_OF_VISIBLE, _VISIBLE_PRIOR = 6.0, 4.0
"""Parameters of `visible_nearby`, in pixels: standard deviation of the Gaussian window, and weight of the prior."""


class Comparison(NamedTuple):
    """The P compared pixels of one date, of all its probes of one kind: the truth, the model's answer with its standard
    deviation, and linear interpolation, each [C, P] on the published scale. `whole` is true if whole blocks were
    hidden."""

    whole: bool
    truth: NDArray[np.float32]
    answer: NDArray[np.float32]
    deviation: NDArray[np.float32]
    linear: NDArray[np.float32]


def compare(
    probes: list[Probe],
    published: Callable[[SpatialTile, int | None], NDArray[np.float32]],
    linear: Callable[[SpatialTile, NDArray[np.bool_], NDArray[np.int64], int | None], NDArray[np.float32]],
    visible: NDArray[np.bool_],
    bands: NDArray[np.intp],
    reach: int,
    maker: Callable[[SpatialTile, NDArray[np.bool_], int | None], WindowMaker],
    sample: Sample,
) -> list[Comparison]:
    """Fills each probe with the model and by linear interpolation, and joins the probes of a date.

    published: returns the values [n, C, h, w] of a block; nothing in them may depend on the
        given frame, if any.
    linear: returns linear interpolation [n, C, 1, P] from the pixels of a block that are visible [n, h, w], at the
        pixels [P] with these row-major indices; the frame is as above.
    visible: [n, H, W].
    bands: [C] indices of these bands among the network's.
    reach: number of clear dates before and after a date on which the network's answer depends.
    maker: returns a maker of windows from a block, its hidden pixels [n, h, w] and, as `published`, a frame.
    sample: its predictions contain the values of the network's bands, then their standard deviations.
    """
    spans = [probe.span(visible, reach) for probe in probes]
    windows = (
        replace(maker(probe.block, ~probe.visible(visible), probe.left_out)(*span), pixels=probe.pixels)
        for probe, span in zip(probes, spans, strict=True)
    )
    of_dates: dict[tuple[int, bool], list[list[NDArray[np.float32]]]] = {}
    for probe, (start, _), prediction in zip(probes, spans, sample(windows), strict=True):
        values = at_pixels(published(probe.block, probe.left_out), probe.pixels)[probe.frame]
        line = linear(probe.block, probe.visible(visible), probe.pixels, probe.left_out)[probe.frame]
        answer, deviation = (part[bands] for part in np.split(prediction[probe.frame - start], 2))
        parts = [part[:, 0] for part in (values, answer, deviation, line)]
        of_dates.setdefault((probe.frame, probe.whole), []).append(parts)
    return [
        Comparison(whole, *(np.concatenate(part, axis=1) for part in zip(*blocks, strict=True)))
        for (_, whole), blocks in of_dates.items()
    ]


def at_pixels(images: NDArray[ScalarT], pixels: NDArray[np.int64]) -> NDArray[ScalarT]:
    """The pixels [P], row-major indices, of images [..., h, w], as [..., 1, P]."""
    return images.reshape(*images.shape[:-2], 1, -1)[..., pixels]


@dataclass(frozen=True)
class SeriesCalibration:
    """The calibration of a model on one series. Of each pair, the first number applies to pixels with nothing visible
    nearby on their date, the second to pixels beside visible ones.

    dates: number of dates that were hidden. network_scale: factor for the network's standard deviations before anything
    is weighed, by which its departures from interpolation are judged (`departures`). share [2, C]: weight of the
    model's answer, 0 … 1; the rest is linear interpolation. deviation_scale [2]: factor for its standard deviations.
    intervals [3]: half widths of the intervals of `LEVELS`, in units of the rescaled standard deviation. correlation
    [C, C]: of the errors of the bands, on dates that were hidden as a whole.
    """

    dates: tuple[int, int]
    network_scale: float
    share: NDArray[np.float64]
    deviation_scale: NDArray[np.float64]
    intervals: NDArray[np.float64]
    correlation: NDArray[np.float64]

    def share_at(self, beside: NDArray[np.float32]) -> NDArray[np.float32]:
        """Weight of the model's answer at each pixel [n, C, h, w]; `beside` [n, h, w] comes from `visible_nearby`."""
        whole, partly = self.share.astype(np.float32)[:, None, :, None, None]
        share: NDArray[np.float32] = whole + (partly - whole) * beside[:, None]
        return share

    def scale_at(self, beside: NDArray[np.float32]) -> NDArray[np.float32]:
        """Factor for the model's standard deviation at each pixel [n, 1, h, w]."""
        hidden, partly = self.deviation_scale.astype(np.float32)
        scale: NDArray[np.float32] = hidden + (partly - hidden) * beside[:, None]
        return scale

    def attributes(self, bands: Sequence[str]) -> dict[str, str]:
        """The calibration as attributes of the result, by name."""

        def shares(kind: int) -> str:
            return " ".join(f"{band} {share:.2f}" for band, share in zip(bands, self.share[kind], strict=True))

        hidden_scale, beside_scale = self.deviation_scale
        return {
            "DATES_TRIED": f"{self.dates[0]} hidden as a whole, {self.dates[1]} in part",
            "MODEL_SHARE_HIDDEN": shares(0),
            "MODEL_SHARE_PARTLY_VISIBLE": shares(1),
            "UNCERTAINTY_SCALED_BY": f"{hidden_scale:.2f} hidden, {beside_scale:.2f} partly visible",
            **{
                f"INTERVAL_{round(100 * level)}": f"{width:.3f}"
                for level, width in zip(LEVELS, self.intervals, strict=True)
            },
        }

    def remark(self) -> str:
        """One line for the log."""
        tested = f"tested on {self.dates[0]} hidden clear dates"
        if self.share.min() == 1:
            return f"{tested}: the model's prediction is used unchanged"
        hidden, partly = self.share.mean(axis=1)
        return f"{tested}: {hidden:.0%} model ({partly:.0%} next to visible pixels), the rest linear interpolation"


def calibrate(comparisons: Sequence[Comparison]) -> SeriesCalibration | None:
    """The calibration that follows from the comparisons; None if too few dates are usable."""
    usable = [one for one in comparisons if one.truth.shape[1] >= MIN_PIXELS]
    kinds = [[one for one in usable if one.whole], [one for one in usable if not one.whole]]
    if len(kinds[0]) < _MIN_DATES:
        return None
    everything = np.ones(kinds[0][0].truth.shape[0])
    network_scale = _scale([_standardised_errors(one, everything) for one in kinds[0]])
    kinds = [[_weighed(one, network_scale) for one in kind] for kind in kinds]
    shares: list[NDArray[np.float64]] = []
    scales: list[float] = []
    errors: list[NDArray[np.float64]] = []
    for kind in kinds:
        if len(kind) < _MIN_DATES:
            shares.append(shares[0])
            scales.append(scales[0])
            continue
        costs = _costs(kind)
        # Leave-one-out: a share chosen with the date itself would make its errors look smaller than those to come.
        others = [_best_share(costs.sum(axis=0) - own) for own in costs]
        kind_errors = [_standardised_errors(one, share) for one, share in zip(kind, others, strict=True)]
        scale = _scale(kind_errors)
        shares.append(_best_share(costs.sum(axis=0)))
        scales.append(scale)
        errors += [error / scale for error in kind_errors]
    widths = np.array([_half_width(errors, level) for level in LEVELS])
    widths *= _normal_half_width(LEVELS[_REFERENCE]) / widths[_REFERENCE]
    correlation = _correlation(kinds[0], shares[0])
    tried = len(kinds[0]), len(kinds[1])
    return SeriesCalibration(tried, network_scale, np.stack(shares), np.array(scales), widths, correlation)


def _weighed(one: Comparison, network_scale: float) -> Comparison:
    """The comparison with the answer weighed by its departures, as it is where gaps are filled."""
    departure = departures(one.answer, one.deviation * np.float32(network_scale), one.linear, axis=0).mean()
    answer = one.linear + weight_of(departure) * (one.answer - one.linear)
    return Comparison(one.whole, one.truth, answer, one.deviation, one.linear)


def _scale(errors: Sequence[NDArray[np.float64]]) -> float:
    """Factor for standard deviations by which these errors were divided."""
    return _half_width(errors, LEVELS[_REFERENCE]) / float(_normal_half_width(LEVELS[_REFERENCE]))


_SHARES = np.linspace(0, 1, 41)


def _costs(comparisons: Sequence[Comparison]) -> NDArray[np.float64]:
    """The logarithm of the mean squared error of linear + α·(answer − linear) by date, share α and band, [n, α, C].
    Averaging logarithms over dates matches the mean PSNR."""
    share = _SHARES[:, None]
    costs = []
    for one in comparisons:
        linear_error = (one.linear - one.truth).astype(np.float64)
        step = (one.answer - one.linear).astype(np.float64)
        cross_term = (linear_error * step).mean(axis=1)
        square = (linear_error**2).mean(axis=1) + 2 * share * cross_term + share**2 * (step**2).mean(axis=1)
        costs.append(np.log(square + _MIN_ERROR))
    return np.stack(costs)


def _best_share(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share with the lowest cost [α, C] in each band, with the prior `_TRUST` in favour of α = 1."""
    chosen: NDArray[np.float64] = _SHARES[(costs + _TRUST * (1 - _SHARES[:, None]) ** 2).argmin(axis=0)]
    return chosen


def _correlation(comparisons: Sequence[Comparison], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """The correlation [C, C] of the errors of the bands, all dates with equal weight, however large their errors."""
    total = np.zeros((len(share), len(share)))
    for one in comparisons:
        errors = (_filled(one, share) - one.truth) / one.deviation
        moments = errors @ errors.T / errors.shape[1] + _MIN_ERROR * np.eye(len(share))
        total += moments / np.trace(moments)
    size = np.sqrt(total.diagonal())
    return total / size / size[:, None]


def _filled(one: Comparison, share: NDArray[np.float64]) -> NDArray[np.floating]:
    """The values [C, P] filled with these shares [C] of the model's answer."""
    filled: NDArray[np.floating] = one.linear + share[:, None] * (one.answer - one.linear)
    return filled


def _standardised_errors(one: Comparison, share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Absolute errors of the values filled with these shares, in units of the model's standard deviation."""
    filled = _filled(one, share)
    return (np.maximum(np.abs(filled - one.truth), _RESOLUTION) / one.deviation).ravel()


def _half_width(errors: Sequence[NDArray[np.float64]], level: float) -> float:
    """Half width that covers a share `level` of the errors of n dates, each date with equal weight (as in conformal
    prediction: Vovk et al. 2005). It is widened by the ratio of Student's t to the normal distribution with as many
    degrees of freedom as dates, because errors within a date are correlated and dates share their neighbours."""
    ranks = (np.arange(200) + 0.5) / 200
    values = np.concatenate([_normal_half_width(ranks), *errors])
    each = [np.full(len(error), 1 / len(error)) for error in errors]
    weights = np.concatenate([np.full(200, _PRIOR_DATES / 200), *each])
    order = values.argsort()
    below = weights[order].cumsum() - weights[order] / 2
    freedom = len(errors) + _PRIOR_DATES
    student_ratio = stdtrit(freedom, 0.5 + level / 2) / _normal_half_width(level)
    return float(np.interp(level, below / weights.sum(), values[order]) * student_ratio)


def _normal_half_width(level: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Half width of the central interval that holds this share of a normal distribution, in standard deviations."""
    return ndtri(0.5 + np.asarray(level) / 2)


def intervals_of(calibration: SeriesCalibration | None) -> NDArray[np.float64]:
    """Half widths of the intervals of `LEVELS`, in standard deviations; without calibration, those of the normal
    distribution."""
    return _normal_half_width(np.array(LEVELS)) if calibration is None else calibration.intervals


def visible_nearby(visible: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Density of visible pixels around each pixel of [n, H, W]: 0 far from any, approaching 1 where all are visible."""
    pixels = np.float32(2 * np.pi * _REACH_OF_VISIBLE**2)
    density = np.empty(visible.shape, np.float32)
    for frame, one in enumerate(visible):
        near = pixels * gaussian_filter(np.float32(one), _REACH_OF_VISIBLE, mode="constant", truncate=3)
        density[frame] = near / (near + np.float32(_VISIBLE_PRIOR))
    return density

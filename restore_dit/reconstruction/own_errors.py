"""How well a model fills the very series that is to be filled: what is hidden (`probes`) is filled and compared.

What is learned from them decides how much of the model's answer is taken in place of linear interpolation, and how
wide its intervals are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import ndtri, stdtrit

from restore_dit.data.examples.normalisation import OPTICAL_CEILING
from restore_dit.model.interpolation import interpolate_from_other_dates
from restore_dit.reconstruction.probes import Probe
from restore_dit.reconstruction.sampling import Sample, WindowMaker
from restore_dit.reconstruction.tiling import SpatialTile

LEVELS = (0.5, 0.8, 0.95)
"""Shares of the truth that the intervals hold."""

_LEAST_DATES = 4
"""With fewer hidden dates nothing is said of the series' own errors."""

_LEAST_PIXELS = 16
"""Hidden pixels with fewer of which a date does not count."""

_TRUST = 2.0
"""Prior in favour of the model: what α = 0 costs before any date was tried, in units of the logarithm of a date's mean
squared error."""

_PRIOR_DATES = 1.0
"""How many dates' errors of the size that the model says are counted beside those that were found."""

_LEAST_ERROR = 1e-6
"""Mean square on the published scale, far below any sensor's noise; keeps logarithms finite."""

_RESOLUTION = 0.5 / OPTICAL_CEILING
"""Half of a stored step on the published scale: no error counts as less."""

_REFERENCE = LEVELS.index(0.8)
_REACH_OF_VISIBLE, _VISIBLE_PRIOR = 6.0, 4.0


class Comparison(NamedTuple):
    """What P hidden pixels are and what is said of them, [C, P] each on the published scale: the truth, the model's
    answer and its standard deviation, linear interpolation."""

    whole: bool
    truth: NDArray[np.float32]
    answer: NDArray[np.float32]
    deviation: NDArray[np.float32]
    linear: NDArray[np.float32]


def compare(
    probes: list[Probe],
    published: Callable[[SpatialTile], NDArray[np.float32]],
    visible: NDArray[np.bool_],
    days: NDArray[np.floating],
    bands: NDArray[np.intp],
    reach: int,
    maker: Callable[[SpatialTile, NDArray[np.bool_]], WindowMaker],
    sample: Sample,
) -> list[Comparison]:
    """Fills each probe by model and by interpolation.

    published: of a block, the values [n, C, h, w] that are compared. visible: [n, H, W]. days: [n].
    bands: [C] the places of these bands among the network's.
    reach: how many clear dates before and after a date the network's answer depends on.
    maker: of a block's windows, of which [n, h, w] is hidden.
    sample: its predictions hold the values of the network's bands, then their standard deviations.
    """
    spans = [probe.span(visible, reach) for probe in probes]
    windows = (maker(probe.block, ~probe.visible(visible))(*span) for probe, span in zip(probes, spans, strict=True))
    found = []
    for probe, (start, _), prediction in zip(probes, spans, sample(windows), strict=True):
        scored = probe.hidden & visible[probe.frame, probe.block.rows, probe.block.columns]
        values = published(probe.block)
        line = _linear(values, probe.visible(visible), days)[probe.frame]
        answer, deviation = (part[bands] for part in np.split(prediction[probe.frame - start], 2))
        found.append(
            Comparison(probe.whole, *(part[:, scored] for part in (values[probe.frame], answer, deviation, line)))
        )
    return found


@dataclass(frozen=True)
class OwnErrors:
    """A model's errors on one series. Of two numbers the first is that of pixels with nothing visible nearby on their
    date, the second that of pixels beside visible ones.

    dates: how many dates were hidden to find out. share [2, C]: how much of the model's answer is taken, 0 … 1; the
    rest is linear interpolation. widening [2]: what its standard deviations are multiplied by. intervals [3]: half
    widths of the intervals of `LEVELS` in these standard deviations.
    """

    dates: tuple[int, int]
    share: NDArray[np.float64]
    widening: NDArray[np.float64]
    intervals: NDArray[np.float64]

    def temper(
        self,
        answer: NDArray[np.float32],
        deviation: NDArray[np.float32],
        published: NDArray[np.float32],
        visible: NDArray[np.bool_],
        beside: NDArray[np.float32],
        days: NDArray[np.floating],
    ) -> None:
        """Adjusts answer and deviation [n, C, h, w] in place to this series' own errors.

        published [n, C, h, w] is interpolated from its `visible` [n, h, w] pixels on its `days` [n]; beside [n, h, w]
        as of `visible_nearby`. Visible pixels stay as they are, and so do those that are visible on no date, for which
        there is nothing to interpolate.
        """
        widening, shares = self.widening.astype(np.float32), self.share.astype(np.float32)
        deviation *= widening[0] + (widening[1] - widening[0]) * beside[:, None]
        if (self.share < 1).any():
            whole, partly = shares[:, None, :, None, None]
            linear = _linear(published, visible, days)
            linear += (whole + (partly - whole) * beside[:, None]) * (answer - linear)
            np.copyto(answer, linear, where=(~visible & visible.any(axis=0))[:, None])

    def attributes(self, bands: Sequence[str]) -> dict[str, str]:
        """The same in words, for whoever gets the result."""

        def shares(kind: int) -> str:
            return " ".join(f"{band} {share:.2f}" for band, share in zip(bands, self.share[kind], strict=True))

        return {
            "DATES_TRIED": f"{self.dates[0]} hidden as a whole, {self.dates[1]} in part",
            "MODEL_SHARE_HIDDEN": shares(0),
            "MODEL_SHARE_PARTLY_VISIBLE": shares(1),
            "UNCERTAINTY_SCALED_BY": f"{self.widening[0]:.2f} hidden, {self.widening[1]:.2f} partly visible",
            **{
                f"INTERVAL_{round(100 * level)}": f"{width:.3f}"
                for level, width in zip(LEVELS, self.intervals, strict=True)
            },
        }

    def remark(self) -> str:
        """One line for a log."""
        tried = f"tried on {self.dates[0]} hidden clear dates"
        if self.share.min() == 1:
            return f"{tried}: the model's answer is used unchanged"
        hidden, partly = self.share.mean(axis=1)
        return f"{tried}: {hidden:.0%} model ({partly:.0%} beside visible pixels), the rest linear interpolation"


def learn(comparisons: Sequence[Comparison]) -> OwnErrors | None:
    """What comparisons say; None of too few dates."""
    usable = [one for one in comparisons if one.truth.shape[1] >= _LEAST_PIXELS]
    kinds = [[one for one in usable if one.whole], [one for one in usable if not one.whole]]
    if len(kinds[0]) < _LEAST_DATES:
        return None
    shares: list[NDArray[np.float64]] = []
    widenings: list[float] = []
    errors: list[NDArray[np.float64]] = []
    for kind in kinds:
        if len(kind) < _LEAST_DATES:
            shares.append(shares[0])
            widenings.append(widenings[0])
            continue
        costs = _costs(kind)
        # The share that the other dates want: a date's own would make its errors look smaller than those to come.
        others = [_best_share(costs.sum(axis=0) - own) for own in costs]
        of_kind = [_in_deviations(one, share) for one, share in zip(kind, others, strict=True)]
        widening = _half_width(of_kind, LEVELS[_REFERENCE]) / float(_gaussian(LEVELS[_REFERENCE]))
        shares.append(_best_share(costs.sum(axis=0)))
        widenings.append(widening)
        errors += [error / widening for error in of_kind]
    widths = np.array([_half_width(errors, level) for level in LEVELS])
    widths *= _gaussian(LEVELS[_REFERENCE]) / widths[_REFERENCE]
    return OwnErrors((len(kinds[0]), len(kinds[1])), np.stack(shares), np.array(widenings), widths)


_SHARES = np.linspace(0, 1, 41)


def _costs(comparisons: Sequence[Comparison]) -> NDArray[np.float64]:
    """The logarithm of the mean squared error of linear + α·(answer − linear) by date, share α and band, [n, α, C]: the
    mean PSNR counts dates so."""
    share = _SHARES[:, None]
    costs = []
    for one in comparisons:
        of_line = (one.linear - one.truth).astype(np.float64)
        step = (one.answer - one.linear).astype(np.float64)
        crossed = (of_line * step).mean(axis=1)
        square = (of_line**2).mean(axis=1) + 2 * share * crossed + share**2 * (step**2).mean(axis=1)
        costs.append(np.log(square + _LEAST_ERROR))
    return np.stack(costs)


def _best_share(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each band the share of the least cost [α, C], with `_TRUST` in α = 1."""
    chosen: NDArray[np.float64] = _SHARES[(costs + _TRUST * (1 - _SHARES[:, None]) ** 2).argmin(axis=0)]
    return chosen


def _in_deviations(one: Comparison, share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sizes of the errors of what is filled with these shares, in the model's standard deviations."""
    filled = one.linear + share[:, None] * (one.answer - one.linear)
    return (np.maximum(np.abs(filled - one.truth), _RESOLUTION) / one.deviation).ravel()


def _half_width(errors: Sequence[NDArray[np.float64]], level: float) -> float:
    """What holds a share `level` of the errors of each of n dates, dates counting alike (as conformal prediction does:
    Vovk et al. 2005), and so much more as Student's t is wider than the normal with as many degrees of freedom
    as dates: pixels of a date err together, and dates share their neighbours."""
    ranks = (np.arange(200) + 0.5) / 200
    values = np.concatenate([_gaussian(ranks), *errors])
    each = [np.full(len(error), 1 / len(error)) for error in errors]
    weights = np.concatenate([np.full(200, _PRIOR_DATES / 200), *each])
    order = values.argsort()
    below = weights[order].cumsum() - weights[order] / 2
    freedom = len(errors) + _PRIOR_DATES
    wider = stdtrit(freedom, 0.5 + level / 2) / _gaussian(level)
    return float(np.interp(level, below / weights.sum(), values[order]) * wider)


def _gaussian(level: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """What holds this share of the sizes of normal errors, in standard deviations."""
    return ndtri(0.5 + np.asarray(level) / 2)


def intervals_of(own: OwnErrors | None) -> NDArray[np.float64]:
    """Half widths of the intervals of `LEVELS` in standard deviations; without own errors those of a normal one."""
    return _gaussian(np.array(LEVELS)) if own is None else own.intervals


def visible_nearby(visible: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How much is visible near each pixel of [n, H, W]: 0 far from anything, towards 1 in the midst of it."""
    pixels = np.float32(2 * np.pi * _REACH_OF_VISIBLE**2)

    def spread_out(one: NDArray[np.bool_]) -> NDArray[np.float32]:
        near: NDArray[np.float32] = gaussian_filter(np.float32(one), _REACH_OF_VISIBLE, mode="constant", truncate=3)
        return near

    weight = pixels * np.stack([spread_out(one) for one in visible])
    return weight / (weight + np.float32(_VISIBLE_PRIOR))


def _linear(
    values: NDArray[np.float32], observed: NDArray[np.bool_], days: NDArray[np.floating]
) -> NDArray[np.float32]:
    """[n, C, h, w] interpolated from the other dates of each."""
    of_one = (torch.from_numpy(np.ascontiguousarray(part))[None] for part in (values, observed[:, None], days))
    return interpolate_from_other_dates(*of_one)[0].numpy()

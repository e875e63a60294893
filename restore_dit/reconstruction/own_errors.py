"""How well a model fills the very series that is to be filled: clear dates are hidden, filled, and compared.

What is learned from them decides how much of the model's answer is taken in place of linear interpolation, and how
wide its intervals are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import ndtri, stdtrit

from restore_dit.model.interpolation import interpolate_from_other_dates
from restore_dit.reconstruction.sampling import Sample, WindowMaker
from restore_dit.reconstruction.tiling import SpatialTile

BLOCK = 16
"""Side in pixels of the blocks in which dates are hidden."""

WHOLE, PARTLY = 24, 12
"""Dates that are hidden as a whole in a block, and such of which a half stays visible; at most."""

_REACH = 10
"""Clear dates on either side of a hidden one that the network is shown: what its two layers of four neighbours see."""

_LEAST_VISIBLE = 0.5
"""Share of a block that a date must show to be hidden there."""

LEVELS = (0.5, 0.8, 0.95)
"""Shares of the truth that the intervals hold."""

_LEAST_DATES = 4
"""With fewer hidden dates nothing is said of the series' own errors."""

_LEAST_PIXELS = 16
_TRUST = 2.0
"""What speaks for the model's whole answer, α = 1, before a date was hidden: the cost of α = 0, in units of the
logarithm of a date's mean squared error."""

_PRIOR_DATES = 1.0
"""Dates whose errors are as the model says, beside those that were seen."""

_LEAST_ERROR = 1e-6
"""Mean square on the published scale, far below any sensor's noise; keeps logarithms finite."""

_REFERENCE = LEVELS.index(0.8)
_REACH_OF_VISIBLE, _VISIBLE_PRIOR = 6.0, 4.0


class Probe(NamedTuple):
    """A date `frame` (an index among those to be filled) of a block, of which `hidden` [h, w] is taken away."""

    block: SpatialTile
    frame: int
    hidden: NDArray[np.bool_]
    whole: bool


class Comparison(NamedTuple):
    """What P hidden pixels are and what is said of them, [C, P] each on the published scale: the truth, the model's
    answer and its standard deviation, linear interpolation."""

    whole: bool
    truth: NDArray[np.float32]
    answer: NDArray[np.float32]
    deviation: NDArray[np.float32]
    linear: NDArray[np.float32]


def choose_probes(visible: NDArray[np.bool_]) -> list[Probe]:
    """Dates and blocks to hide of a series that shows the pixels `visible` [n, H, W]: dates spread evenly over those
    that can be hidden, blocks in all quarters of the area in turn."""
    blocks = _blocks(visible)
    shown = np.array([visible[:, block.rows, block.columns].mean(axis=(1, 2)) for block in blocks])  # [blocks, n]
    candidates = np.flatnonzero((shown >= _LEAST_VISIBLE).any(axis=0))
    probes = []
    for whole, most in ((True, WHOLE), (False, PARTLY)):
        places = np.linspace(0, len(candidates) - 1, min(most, len(candidates)))
        for number, frame in enumerate(candidates[np.unique(np.rint(places).astype(int))]):
            able = np.flatnonzero(shown[:, frame] >= _LEAST_VISIBLE)
            block = blocks[able[number % len(able)]]
            hidden = np.ones((block.height, block.width), bool) if whole else _half(block, number)
            probes.append(Probe(block, int(frame), hidden, whole))
    return probes


def compare(
    probes: list[Probe],
    published: NDArray[np.float32],
    visible: NDArray[np.bool_],
    days: NDArray[np.floating],
    bands: NDArray[np.intp],
    maker: Callable[[SpatialTile, NDArray[np.bool_]], WindowMaker],
    sample: Sample,
) -> list[Comparison]:
    """Fills each probe by model and by interpolation.

    published: [n, C, H, W] what is compared. visible: [n, H, W]. days: [n]. bands: [C] the places of its bands
        among the network's.
    maker: of a block's windows, of which [n, h, w] is hidden.
    sample: its predictions hold the values of the network's bands, then their standard deviations.
    """
    spans = [_span(visible[:, probe.block.rows, probe.block.columns], probe.frame) for probe in probes]

    def gaps_of(probe: Probe) -> NDArray[np.bool_]:
        gaps = ~visible[:, probe.block.rows, probe.block.columns]
        gaps[probe.frame] |= probe.hidden
        return gaps

    windows = (maker(probe.block, gaps_of(probe))(*span) for probe, span in zip(probes, spans, strict=True))
    found = []
    for probe, (start, _), prediction in zip(probes, spans, sample(windows), strict=True):
        scored = probe.hidden & visible[probe.frame, probe.block.rows, probe.block.columns]
        values = published[:, :, probe.block.rows, probe.block.columns]
        line = _linear(values, ~gaps_of(probe), days)[probe.frame]
        answer, deviation = (part[bands] for part in np.split(prediction[probe.frame - start], 2))
        found.append(
            Comparison(probe.whole, *(part[:, scored] for part in (values[probe.frame], answer, deviation, line)))
        )
    return found


@dataclass(frozen=True)
class OwnErrors:
    """What a model's errors are on a series, first where nothing near is visible on a date, then beside visible pixels.

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
        days: NDArray[np.floating],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Answer and deviation [n, C, H, W] as this series wants them, where they are not `visible` [n, H, W]; what is
        visible of `published` [n, C, H, W] is interpolated on its `days` [n]."""
        beside = _beside(visible)[:, None]
        deviation = deviation * (self.widening[0] + (self.widening[1] - self.widening[0]) * beside)
        if (self.share < 1).any():
            whole, partly = self.share.astype(np.float32)[:, None, :, None, None]
            linear = _linear(published, visible, days)
            tempered = linear + (whole + (partly - whole) * beside) * (answer - linear)
            answer = np.where(visible[:, None], answer, tempered)
        return answer, deviation.astype(np.float32)

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
        tried = f"{self.dates[0]} clear dates were hidden and filled to see how well this series can be"
        if min(self.share.min(axis=1)) == 1:
            return f"{tried}: the model's answer is taken as it is"
        hidden, partly = self.share.mean(axis=1)
        return (
            f"{tried}: {hidden:.0%} of the model's answer ({partly:.0%} beside visible pixels) and else interpolation"
        )


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
        share = _share(kind) if len(kind) >= _LEAST_DATES else shares[0]
        of_kind = [_in_deviations(one, share) for one in kind]
        widening = _half_width(of_kind, LEVELS[_REFERENCE]) / float(_gaussian(LEVELS[_REFERENCE]))
        shares.append(share)
        widenings.append(widening)
        errors += [error / widening for error in of_kind]
    widths = np.array([_half_width(errors, level) for level in LEVELS])
    widths *= _gaussian(LEVELS[_REFERENCE]) / widths[_REFERENCE]
    return OwnErrors((len(kinds[0]), len(kinds[1])), np.stack(shares), np.array(widenings), widths)


def _share(comparisons: Sequence[Comparison]) -> NDArray[np.float64]:
    """For each band the α of linear + α·(answer − linear) whose mean squared errors, date by date, are least in the
    mean of their logarithms, as the mean PSNR counts them; with `_TRUST` in α = 1."""
    grid = np.linspace(0, 1, 41)[:, None]
    cost = np.zeros((len(grid), len(comparisons[0].truth))) + _TRUST * (1 - grid) ** 2
    for one in comparisons:
        of_line = (one.linear - one.truth).astype(np.float64)
        step = (one.answer - one.linear).astype(np.float64)
        square = (of_line**2).mean(axis=1) + 2 * grid * (of_line * step).mean(axis=1) + grid**2 * (step**2).mean(axis=1)
        cost += np.log(square + _LEAST_ERROR)
    chosen: NDArray[np.float64] = grid[cost.argmin(axis=0), 0]
    return chosen


def _in_deviations(one: Comparison, share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sizes of the errors of what is filled with these shares, in the model's standard deviations."""
    filled = one.linear + share[:, None] * (one.answer - one.linear)
    return (np.abs(filled - one.truth) / one.deviation).ravel()


def _half_width(errors: Sequence[NDArray[np.float64]], level: float) -> float:
    """What holds a share `level` of the errors of each of n dates, dates counting alike (split conformal prediction:
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


def _beside(visible: NDArray[np.bool_]) -> NDArray[np.float32]:
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


def _blocks(visible: NDArray[np.bool_]) -> list[SpatialTile]:
    """In each quarter of the area the block that shows most; in an area of less than two blocks a side the one that
    does."""
    _, height, width = visible.shape
    side_h, side_w = min(BLOCK, height), min(BLOCK, width)
    seen = visible.mean(axis=0)
    blocks = []
    for rows, columns in product(_halves(height, side_h), _halves(width, side_w)):
        corners = product(
            range(rows[0], rows[1] - side_h + 1, side_h), range(columns[0], columns[1] - side_w + 1, side_w)
        )
        places = [SpatialTile(row, column, side_h, side_w) for row, column in corners]
        blocks.append(max(places, key=lambda place: seen[place.rows, place.columns].mean()))
    return blocks


def _halves(extent: int, side: int) -> list[tuple[int, int]]:
    return [(0, extent // 2), (extent // 2, extent)] if extent >= 2 * side else [(0, extent)]


def _half(block: SpatialTile, number: int) -> NDArray[np.bool_]:
    """One half of a block, another of the four for each number."""
    rows, columns = np.indices((block.height, block.width))
    across = block.width == 1 or (number % 2 == 1 and block.height > 1)
    first = rows < block.height / 2 if across else columns < block.width / 2
    return first if number % 4 < 2 else ~first


def _span(visible: NDArray[np.bool_], frame: int) -> tuple[int, int]:
    """The frames [start, stop) around one among which `_REACH` on either side show a block [n, h, w]."""
    shown = visible.mean(axis=(1, 2)) >= _LEAST_VISIBLE
    before, after = np.flatnonzero(shown[:frame]), np.flatnonzero(shown[frame + 1 :]) + frame + 1
    start = before[-_REACH] if len(before) >= _REACH else 0
    stop = after[_REACH - 1] + 1 if len(after) >= _REACH else len(visible)
    return int(start), int(stop)

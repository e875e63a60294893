"""Artificial gaps for calibration: blocks of clear dates, hidden in gaps as long as the real ones of the series, and
parts of blocks, hidden in the shape of real gaps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from restore_dit.reconstruction.tiling import SpatialTile

ChoiceT = TypeVar("ChoiceT")

WHOLE, PARTLY = 24, 12
"""Maximum number of dates that are hidden entirely, and of those of which a part is hidden."""

_SIDE_WHOLE, _SIDE_PARTLY, _SIDE_GAPS = 8, 32, 16
"""Side lengths in pixels of the blocks that are hidden entirely, of those of which a part is hidden, and of those whose
gaps are measured. Nothing around a pixel tells of a date that is hidden entirely, so small blocks all over the area
are best; if a part is visible, what is visible around it matters."""

_MAX_PIXELS = 256
"""Maximum number of pixels of a block that are compared."""

_BEYOND_REACH = 2
"""Clear dates on either side that are shown to the network in addition to those within its reach."""

_MIN_VISIBLE = 0.5
"""Minimum visible share of a block for a date to be hidden there."""

_NOTHING_VISIBLE = 0.02
"""Maximum visible share of an area for a date to count as entirely hidden."""

_PARTLY_HIDDEN = (0.05, 0.95)
"""Range of the hidden share of a block on dates from which the shape of a partial gap is taken."""

_MAX_BLOCKS = 8
"""Along each side of the area, blocks that are used."""

MIN_PIXELS = 16
"""Compared pixels below which a date does not count."""

_GOLDEN = (5**0.5 - 1) / 2
"""Inverse of the golden ratio: the fractional parts of its multiples form a low-discrepancy sequence in [0, 1)."""


class GapLength(NamedTuple):
    """Days from a hidden date to the nearest visible dates before and after it; infinite if there is none."""

    before: float
    after: float


class Probe(NamedTuple):
    """One artificial gap: the pixels `hidden` [h, w] of a block are hidden on the date `frame` (an index among the
    frames to be filled) and on the neighbouring dates `beside`, which make the gap as long as a real one. Those to
    compare are `pixels` [P], row-major indices within the block. `whole` is true if the whole block is hidden."""

    block: SpatialTile
    frame: int
    beside: tuple[int, ...]
    hidden: NDArray[np.bool_]
    pixels: NDArray[np.int64]
    whole: bool

    @property
    def left_out(self) -> int | None:
        """The frame of which nothing may be known anywhere, if this stands for a date that is hidden entirely."""
        return self.frame if self.whole else None

    def visible(self, visible: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The pixels of the block that stay visible [n, h, w], given those of the series, `visible` [n, H, W]."""
        shown = visible[:, self.block.rows, self.block.columns].copy()
        shown[[self.frame, *self.beside]] &= ~self.hidden
        return shown

    def span(self, visible: NDArray[np.bool_], reach: int) -> tuple[int, int]:
        """The frames [start, stop) to pass to the network, with up to `reach` + 2 dates on either side on which the
        pixels hidden on `frame` are visible."""
        shown = _shows(self.visible(visible), self.hidden)
        before, after = np.flatnonzero(shown[: self.frame]), np.flatnonzero(shown[self.frame + 1 :]) + self.frame + 1
        reach += _BEYOND_REACH
        start = before[-reach] if len(before) >= reach else 0
        stop = after[reach - 1] + 1 if len(after) >= reach else len(visible)
        return int(start), int(stop)


def choose_probes(visible: NDArray[np.bool_], days: NDArray[np.floating]) -> list[Probe]:
    """Chooses the probes of a series with the pixels `visible` [n, H, W] on its `days` [n]. The dates are spread evenly
    over those that can be hidden. A date is hidden entirely in one block of each quarter of the area, in gaps as long
    as those of the series; or in a larger block in the shape of a real gap there, on this date alone, since what is
    visible beside such a gap says more than other dates. Probes of one date follow each other."""
    probes: list[Probe] = []
    if visible[0].size < MIN_PIXELS:
        return probes
    for whole, most, side in ((True, WHOLE, _SIDE_WHOLE), (False, PARTLY, _SIDE_PARTLY)):
        blocks = _blocks(visible.shape[1:], side)
        shown = np.array([visible[:, block.rows, block.columns].mean(axis=(1, 2)) for block in blocks])  # [blocks, n]
        quarters = _quarters(blocks, visible.shape[1:]) if whole else [list(range(len(blocks)))]
        candidates = np.flatnonzero((shown >= _MIN_VISIBLE).any(axis=0))
        places = np.linspace(0, len(candidates) - 1, min(most, len(candidates)))
        frames = candidates[np.unique(np.rint(places).astype(int))]
        lengths = gap_lengths(visible, days) if whole else []
        wanted = _wanted_lengths(lengths, shown.T >= _MIN_VISIBLE, frames, days)
        for number, (frame, length) in enumerate(zip(frames.tolist(), wanted, strict=True)):
            for quarter in quarters:
                able = [blocks[index] for index in quarter if shown[index, frame] >= _MIN_VISIBLE]
                if able:
                    block = _spread_over(able, number + 1)
                    probes.append(_probe(visible, days, block, frame, length, number, whole=whole))
    return [probe for probe in probes if len(probe.pixels)]


def _probe(
    visible: NDArray[np.bool_],
    days: NDArray[np.floating],
    block: SpatialTile,
    frame: int,
    length: GapLength | None,
    number: int,
    *,
    whole: bool,
) -> Probe:
    """The probe that hides a block, or a part of it, on a date, in a gap of this length; `number` is the date's."""
    seen = visible[:, block.rows, block.columns]
    hidden = np.ones(seen.shape[1:], bool) if whole else _part(seen, number)
    beside = () if length is None else _within(length, frame, days, seen, hidden)
    known = np.flatnonzero(hidden & seen[frame])
    chosen = np.linspace(0, len(known) - 1, min(len(known), _MAX_PIXELS)).astype(int)
    return Probe(block, frame, beside, hidden, known[chosen], whole)


def _spread_over(choices: Sequence[ChoiceT], number: int) -> ChoiceT:
    """The choices of numbers 1, 2, … are spread evenly over all, however many numbers follow."""
    return choices[int(number * _GOLDEN % 1 * len(choices))]


def gap_lengths(visible: NDArray[np.bool_], days: NDArray[np.floating]) -> list[GapLength]:
    """The gaps of a series, shortest first, around dates on which nothing of a block is visible, as seen by blocks all
    over the area."""
    found = []
    for rows, columns in product(*(_along(extent, _SIDE_GAPS) for extent in visible.shape[1:])):
        share = visible[:, rows, columns].mean(axis=(1, 2))
        before, after = _days_to_others(share[:, None] >= _MIN_VISIBLE, days)
        hidden = np.flatnonzero(share <= _NOTHING_VISIBLE)
        found += [GapLength(float(before[frame, 0]), float(after[frame, 0])) for frame in hidden]
    return sorted(found, key=sum)


def _along(extent: int, side: int) -> list[slice]:
    """Adjacent blocks along one axis, the last of which ends at its end: all, or `_MAX_BLOCKS` that are evenly
    spread."""
    side = min(side, extent)
    starts = np.array(sorted({*range(0, extent - side + 1, side), extent - side}))
    chosen = np.linspace(0, len(starts) - 1, min(len(starts), _MAX_BLOCKS)).round().astype(int)
    return [slice(int(start), int(start) + side) for start in starts[chosen]]


def _days_to_others(
    shown: NDArray[np.bool_], days: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Days from each date to the nearest others before and after it on which each of K blocks is `shown` [n, K], both
    [n, K]; infinite if there is none."""
    before, after = np.full((2, *shown.shape), np.inf)
    for found, these, each in ((before, shown, days), (after[::-1], shown[::-1], -days[::-1])):
        latest = np.maximum.accumulate(np.where(these, each[:, None], -np.inf), axis=0)
        found[1:] = each[1:, None] - latest[:-1]
    return before, after


def _wanted_lengths(
    lengths: Sequence[GapLength], shown: NDArray[np.bool_], frames: NDArray[np.intp], days: NDArray[np.floating]
) -> list[GapLength | None]:
    """The length of the gap to make around each of the frames: quantiles of the `lengths`, which are sorted, the longer
    the farther apart the dates before and after the frame are on which the blocks are `shown` [n, K]. No gap can be
    shorter than that, so lengths drawn at random would make gaps too long."""
    if not lengths:
        return [None] * len(frames)
    least = np.add(*_days_to_others(shown, days))
    typical = [np.median(least[frame, shown[frame]]) for frame in frames]
    ranks = np.argsort(np.argsort(typical, kind="stable"), kind="stable")
    return [lengths[int((rank + 0.5) / len(frames) * len(lengths))] for rank in ranks]


def _within(
    length: GapLength,
    frame: int,
    days: NDArray[np.floating],
    visible: NDArray[np.bool_],
    hidden: NDArray[np.bool_],
) -> tuple[int, ...]:
    """The other dates to hide for a gap around a frame whose length is as near to this one as the dates allow on which
    the pixels `hidden` [h, w] of the block are visible; empty if they would be visible on no date."""
    distance = days - days[frame]
    shown = _shows(visible, hidden) & (np.arange(len(days)) != frame)
    before = _nearest(-distance[shown & (distance <= 0)], length.before)
    after = _nearest(distance[shown & (distance >= 0)], length.after)
    covered = (distance > -before) & (distance < after)
    covered[frame] = True
    if not shown[~covered].any():
        return ()
    covered[frame] = False
    return tuple(np.flatnonzero(covered & visible[:, hidden].any(axis=1)).tolist())


def _nearest(distances: NDArray[np.floating], wanted: float) -> float:
    """The distance in days that is nearest to the wanted one; infinite if there is none, or if that is wanted."""
    if not len(distances) or np.isinf(wanted):
        return np.inf
    return float(distances[np.abs(distances - wanted).argmin()])


def _shows(visible: NDArray[np.bool_], pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The dates on which enough of the given pixels [h, w] of a block [n, h, w] are visible, [n]."""
    enough: NDArray[np.bool_] = visible[:, pixels].mean(axis=1) >= _MIN_VISIBLE
    return enough


def _blocks(size: tuple[int, ...], side: int) -> list[SpatialTile]:
    """Blocks all over an area (H, W)."""
    places = product(*(_along(extent, side) for extent in size))
    return [
        SpatialTile(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
        for rows, columns in places
    ]


def _quarters(blocks: list[SpatialTile], size: tuple[int, ...]) -> list[list[int]]:
    """The indices of the blocks whose centres lie in each quarter of an area (H, W)."""
    quarters: dict[tuple[bool, bool], list[int]] = {}
    for index, block in enumerate(blocks):
        lower, right = 2 * block.row + block.height > size[0], 2 * block.column + block.width > size[1]
        quarters.setdefault((lower, right), []).append(index)
    return list(quarters.values())


def _part(seen: NDArray[np.bool_], number: int) -> NDArray[np.bool_]:
    """The part of a block [h, w] to hide: that which is hidden on one of the dates when a part of it is [n, h, w], or,
    if there is none, one half; `number` cycles through left, top, right and bottom."""
    share = 1 - seen.mean(axis=(1, 2))
    like = np.flatnonzero((share >= _PARTLY_HIDDEN[0]) & (share <= _PARTLY_HIDDEN[1]))
    if len(like):
        gap: NDArray[np.bool_] = ~seen[_spread_over(like.tolist(), number + 1)]
        return gap
    height, width = seen.shape[1:]
    rows, columns = np.indices((height, width))
    across = width == 1 or (number % 2 == 1 and height > 1)
    first = rows < height / 2 if across else columns < width / 2
    return first if number % 4 < 2 else ~first

"""Artificial gaps for calibration: parts of clear dates, hidden in gaps as long as the real gaps of the series."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from restore_dit.reconstruction.tiling import SpatialTile

BLOCK = 16
"""Side length in pixels of the blocks in which dates are hidden."""

WHOLE, PARTLY = 24, 12
"""Maximum number of probes that hide a whole block, and of those that hide half a block."""

_BEYOND_REACH = 2
"""Clear dates on either side that are shown to the network in addition to those within its reach."""

_LEAST_VISIBLE = 0.5
"""Minimum visible share of a block for a date to be hidden there."""

_NOTHING_VISIBLE = 0.02
"""Maximum visible share of an area for a date to count as entirely hidden."""

_MOST_BLOCKS = 8
"""Along each side of the area, blocks whose gaps are looked at."""

LEAST_PIXELS = 16
"""Hidden pixels below which a date does not count."""

_GOLDEN = (5**0.5 - 1) / 2
"""Inverse of the golden ratio: the fractional parts of its multiples form a low-discrepancy sequence in [0, 1)."""


class GapLength(NamedTuple):
    """Days from a hidden date to the nearest visible dates before and after it; infinite if there is none."""

    before: float
    after: float


class Probe(NamedTuple):
    """One artificial gap: the pixels `hidden` [h, w] of a block are hidden on the date `frame` (an index among the
    frames to be filled) and on the neighbouring dates `beside`, which make the gap as long as a real one. `whole` is
    true if the whole block is hidden."""

    block: SpatialTile
    frame: int
    beside: tuple[int, ...]
    hidden: NDArray[np.bool_]
    whole: bool

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
    over those that can be hidden, the blocks alternate between the quarters of the area, and the gap lengths are drawn
    from those of the series."""
    blocks = _blocks(visible)
    if blocks[0].height * blocks[0].width < LEAST_PIXELS:
        return []
    shown = np.array([visible[:, block.rows, block.columns].mean(axis=(1, 2)) for block in blocks])  # [blocks, n]
    candidates = np.flatnonzero((shown >= _LEAST_VISIBLE).any(axis=0))
    probes = []
    for whole, most in ((True, WHOLE), (False, PARTLY)):
        lengths = gap_lengths(visible, days, whole=whole)
        places = np.linspace(0, len(candidates) - 1, min(most, len(candidates)))
        for number, frame in enumerate(candidates[np.unique(np.rint(places).astype(int))]):
            able = np.flatnonzero(shown[:, frame] >= _LEAST_VISIBLE)
            block = blocks[able[number % len(able)]]
            hidden = np.ones((block.height, block.width), bool) if whole else _half(block, number)
            beside: tuple[int, ...] = ()
            if lengths:
                length = lengths[int((number + 1) * _GOLDEN % 1 * len(lengths))]
                beside = _within(length, int(frame), days, visible[:, block.rows, block.columns], hidden)
            probes.append(Probe(block, int(frame), beside, hidden, whole))
    return probes


def gap_lengths(visible: NDArray[np.bool_], days: NDArray[np.floating], *, whole: bool) -> list[GapLength]:
    """The gaps of a series, shortest first, as seen by blocks all over the area: with `whole`, around dates on which
    nothing of a block is visible; otherwise, around those on which a part is, where it is the median over the hidden
    pixels."""
    found = []
    for rows, columns in product(*(_spread(extent) for extent in visible.shape[1:])):
        block = visible[:, rows, columns]
        share = block.mean(axis=(1, 2))
        if whole:
            block = _shows(block, np.ones(block.shape[1:], bool))[:, None, None]
            frames = np.flatnonzero(share <= _NOTHING_VISIBLE)
        else:
            frames = np.flatnonzero((share > _NOTHING_VISIBLE) & (share < 1))
        since, until = _days_since_visible(block, days), _days_since_visible(block[::-1], -days[::-1])[::-1]
        for frame in frames:
            hidden = ~block[frame]
            found.append(GapLength(float(np.median(since[frame][hidden])), float(np.median(until[frame][hidden]))))
    return sorted(found, key=sum)


def _spread(extent: int) -> list[slice]:
    """Blocks along one axis: all of them, or `_MOST_BLOCKS` that are evenly spread."""
    side = min(BLOCK, extent)
    starts = np.array(_starts(0, extent, side))
    chosen = np.linspace(0, len(starts) - 1, min(len(starts), _MOST_BLOCKS)).round().astype(int)
    return [slice(int(start), int(start) + side) for start in starts[chosen]]


def _days_since_visible(visible: NDArray[np.bool_], days: NDArray[np.floating]) -> NDArray[np.float32]:
    """Days since each pixel was last visible, on or before each date, [n, H, W]."""
    each = days.astype(np.float32)[:, None, None]
    since: NDArray[np.float32] = each - np.maximum.accumulate(np.where(visible, each, np.float32(-np.inf)), axis=0)
    return since


def _within(
    length: GapLength,
    frame: int,
    days: NDArray[np.floating],
    visible: NDArray[np.bool_],
    hidden: NDArray[np.bool_],
) -> tuple[int, ...]:
    """The other dates within a gap of this length around a frame; empty if the pixels `hidden` [h, w] of the block
    would be visible on no date."""
    distance = days - days[frame]
    covered = (distance > -length.before) & (distance < length.after)
    covered[frame] = True
    if not _shows(visible, hidden)[~covered].any():
        return ()
    covered[frame] = False
    return tuple(np.flatnonzero(covered).tolist())


def _shows(visible: NDArray[np.bool_], pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The dates on which enough of the given pixels [h, w] of a block [n, h, w] are visible, [n]."""
    enough: NDArray[np.bool_] = visible[:, pixels].mean(axis=1) >= _LEAST_VISIBLE
    return enough


def _blocks(visible: NDArray[np.bool_]) -> list[SpatialTile]:
    """The block with the most visible pixels in each quarter of the area; a side shorter than two blocks is not
    divided."""
    _, height, width = visible.shape
    side_h, side_w = min(BLOCK, height), min(BLOCK, width)
    seen = visible.mean(axis=0)
    blocks = []
    for rows, columns in product(_halves(height, side_h), _halves(width, side_w)):
        corners = product(_starts(*rows, side_h), _starts(*columns, side_w))
        places = [SpatialTile(row, column, side_h, side_w) for row, column in corners]
        blocks.append(max(places, key=lambda place: seen[place.rows, place.columns].mean()))
    return blocks


def _halves(extent: int, side: int) -> list[tuple[int, int]]:
    return [(0, extent // 2), (extent // 2, extent)] if extent >= 2 * side else [(0, extent)]


def _starts(first: int, stop: int, side: int) -> list[int]:
    """Start positions of adjacent blocks in [first, stop), plus one that ends at `stop`."""
    return sorted({*range(first, stop - side + 1, side), stop - side})


def _half(block: SpatialTile, number: int) -> NDArray[np.bool_]:
    """A mask of one half of a block; `number` cycles through left, top, right and bottom."""
    rows, columns = np.indices((block.height, block.width))
    across = block.width == 1 or (number % 2 == 1 and block.height > 1)
    first = rows < block.height / 2 if across else columns < block.width / 2
    return first if number % 4 < 2 else ~first

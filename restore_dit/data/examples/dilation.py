"""The pixels that a cloud mask hides, with clouds and shadows dilated: masks rarely reach the very edge of a cloud."""

from __future__ import annotations

from itertools import pairwise
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from restore_dit.series import CLEAR, CLOUD_NO_DATA

SMALLEST_CLOUD = 3
"""Side in pixels of the smallest square that a piece of cloud or shadow must contain to be dilated. Clouds that have a
bright edge are larger; smaller pieces are mostly bright or dark ground that the mask mistakes, often in such numbers
that their dilation would hide much of the ground between them."""

MISTAKEN_SHARE = 0.25
"""Share of the mostly clear dates on which a pixel must be flagged to count as ground that the mask mistakes. Where
masks are sound, they hide a pixel on 4 to 7 % of these dates on average, and none on more than 27 % (four sites)."""

_MOSTLY_CLEAR, _MIN_DATES = 0.5, 8
"""Maximum hidden share of a mostly clear date, and minimum number of such dates for `MISTAKEN_SHARE` to apply."""

_HARDLY_HIDDEN = 0.25
"""Maximum hidden share of the dates on which a pixel that is flagged twice in succession counts as mistaken ground. Of
two masks with more clouds than that, many pixels would be under both by chance."""

_REACH = SMALLEST_CLOUD - 1


def hidden_pixels(
    clouds: NDArray[np.uint8], dilation: int, mistaken: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Where masks uint8 [..., H, W] are not clear, or within `dilation` pixels of a piece of cloud or shadow that
    contains a square of `SMALLEST_CLOUD` pixels. Neither areas without data, which have exact borders, nor the pixels
    `mistaken` [..., H, W] for cloud or shadow are dilated."""
    hidden = clouds != CLEAR
    if not dilation:
        return hidden
    pieces = hidden if mistaken is None else hidden & ~mistaken
    return hidden | dilated(opened(pieces) & (clouds != CLOUD_NO_DATA), dilation)


def mistaken_ground(clouds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The pixels [T, H, W] that the masks [T, H, W] of a series flag as cloud or shadow though they must be ground:
    bright soil, roofs, water. Clouds are elsewhere on every date; ground stays. So a pixel is ground if it is flagged
    on two clear dates in succession, or on a large share of all."""
    flagged = (clouds != CLEAR) & (clouds != CLOUD_NO_DATA)
    hidden = (clouds != CLEAR).mean(axis=(1, 2))
    mistaken = np.zeros_like(flagged)
    for date, following in pairwise(np.flatnonzero(hidden < _HARDLY_HIDDEN)):
        both = flagged[date] & flagged[following]
        mistaken[date] |= both
        mistaken[following] |= both
    # On overcast dates every pixel is flagged, which would make all ground look mistaken.
    mostly_clear = hidden < _MOSTLY_CLEAR
    if mostly_clear.sum() >= _MIN_DATES:
        mistaken |= flagged & (flagged[mostly_clear].mean(axis=0) >= MISTAKEN_SHARE)
    return mistaken


def hidden_part(clouds: NDArray[np.uint8], rows: slice, columns: slice, dilation: int) -> NDArray[np.bool_]:
    """`hidden_pixels` of a part of masks [..., H, W], including the dilation of clouds beyond its border."""
    around, inside = [], []
    for part in (rows, columns):
        first = max(part.start - dilation - _REACH, 0)
        around.append(slice(first, part.stop + dilation + _REACH))
        inside.append(slice(part.start - first, part.stop - first))
    return hidden_pixels(clouds[..., around[0], around[1]], dilation)[..., inside[0], inside[1]]


def opened(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Masks [..., H, W] without what is too small to contain a square of `SMALLEST_CLOUD` pixels: a morphological
    opening. Beyond the border of the image, everything counts as in the mask, since clouds go on there."""
    edges = [(0, 0)] * (masks.ndim - 2) + [(_REACH, _REACH)] * 2
    result = np.pad(masks, edges, constant_values=True)
    for combine in (np.logical_and, np.logical_or):  # erosion, then dilation
        for axis in (-2, -1):
            length = result.shape[axis] - _REACH
            before, result = result, _along(result, axis, slice(0, length)).copy()
            for first in range(1, SMALLEST_CLOUD):
                combine(result, _along(before, axis, slice(first, first + length)), out=result)
    return result


def _along(masks: NDArray[np.bool_], axis: int, part: slice) -> NDArray[np.bool_]:
    return masks[..., part, :] if axis == -2 else masks[..., part]


def dilated(masks: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Masks [..., H, W] dilated by a disc: all pixels whose centre is at most `radius` pixels from one in the mask."""
    # The disc is a stack of horizontal lines whose lengths increase towards its middle.
    half_lengths = {row: isqrt(radius**2 - row**2) for row in range(-radius, radius + 1)}
    widened = np.zeros_like(masks)
    lines = masks.copy()
    for half in range(radius + 1):
        if half:
            _add(lines, masks, 0, half)
            _add(lines, masks, 0, -half)
        for row, length in half_lengths.items():
            if length == half:
                _add(widened, lines, row, 0)
    return widened


def _add(target: NDArray[np.bool_], masks: NDArray[np.bool_], down: int, right: int) -> None:
    """Adds the masks, shifted by this many pixels, to `target`; pixels shifted out of the image are dropped."""
    to_rows, from_rows = _overlap(masks.shape[-2], down)
    to_columns, from_columns = _overlap(masks.shape[-1], right)
    target[..., to_rows, to_columns] |= masks[..., from_rows, from_columns]


def _overlap(length: int, shift: int) -> tuple[slice, slice]:
    shift = max(-length, min(shift, length))
    return slice(max(shift, 0), length + min(shift, 0)), slice(max(-shift, 0), length - max(shift, 0))

"""The pixels that a cloud mask hides, with clouds and shadows dilated: masks rarely reach the very edge of a cloud."""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from restore_dit.series import CLEAR, CLOUD_NO_DATA


def hidden_pixels(clouds: NDArray[np.uint8], dilation: int) -> NDArray[np.bool_]:
    """Where masks uint8 [..., H, W] are not clear, or within `dilation` pixels of cloud or shadow. Areas without data
    have exact borders and are not dilated."""
    hidden = clouds != CLEAR
    return hidden | dilated(hidden & (clouds != CLOUD_NO_DATA), dilation) if dilation else hidden


def hidden_part(clouds: NDArray[np.uint8], rows: slice, columns: slice, dilation: int) -> NDArray[np.bool_]:
    """`hidden_pixels` of a part of masks [..., H, W], including the dilation of clouds beyond its border."""
    around, inside = [], []
    for part in (rows, columns):
        first = max(part.start - dilation, 0)
        around.append(slice(first, part.stop + dilation))
        inside.append(slice(part.start - first, part.stop - first))
    return hidden_pixels(clouds[..., around[0], around[1]], dilation)[..., inside[0], inside[1]]


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

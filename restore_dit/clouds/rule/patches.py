"""Patches of a mask: specks dropped, what remains widened."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from restore_dit.clouds.rule.place import Place

Mask = NDArray[np.bool_]


def without_specks(mask: Mask, square_metres: float, place: Place) -> Mask:
    """The mask [T, H, W] less each frame's patches that are smaller; pixels that touch at a corner are one patch."""
    within_frame = np.zeros((3, 3, 3), bool)
    within_frame[1] = True
    patches, count = ndimage.label(mask, within_frame)
    least = square_metres / place.pixel_area - 1e-6  # pixels; the area of one is rounded
    kept = np.bincount(patches.ravel(), minlength=count + 1) >= least
    kept[0] = False
    return kept[patches]


def grown(mask: Mask, metres: float, place: Place) -> Mask:
    """The mask [T, H, W] widened by so many metres: by squares and diamonds in turn, which is nearly a circle; along
    the shorter side of pixels that are not square by what that leaves."""
    down, right = (round(metres / side) for side in place.pixel_sides)
    for step in range(min(down, right)):
        mask = ndimage.binary_dilation(mask, ndimage.generate_binary_structure(2, 1 + step % 2)[None])
    left = (1, 1 + 2 * max(down - right, 0), 1 + 2 * max(right - down, 0))
    return mask if down == right else ndimage.binary_dilation(mask, np.ones(left, bool))

"""Cleans masks: removes small patches and grows the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from restore_dit.clouds.rule.place import Place

Mask = NDArray[np.bool_]


def without_specks(mask: Mask, square_metres: float, place: Place) -> Mask:
    """The mask [T, H, W] without patches below an area. Patches are 8-connected within a frame."""
    within_frame = np.zeros((3, 3, 3), bool)
    within_frame[1] = True
    patches, count = ndimage.label(mask, within_frame)
    least = square_metres / place.pixel_area - 1e-6  # pixels; the tolerance allows for rounding of the pixel area
    kept = np.bincount(patches.ravel(), minlength=count + 1) >= least
    kept[0] = False
    return kept[patches]


def grown(mask: Mask, metres: float, place: Place) -> Mask:
    """The mask [T, H, W] dilated by a distance: alternately by diamonds and squares, which approximates a circle and,
    if pixels are not square, by the remaining distance along their shorter side."""
    down, right = (round(metres / side) for side in place.pixel_sides)
    for step in range(min(down, right)):
        mask = ndimage.binary_dilation(mask, ndimage.generate_binary_structure(2, 1 + step % 2)[None])
    left = (1, 1 + 2 * max(down - right, 0), 1 + 2 * max(right - down, 0))
    return mask if down == right else ndimage.binary_dilation(mask, np.ones(left, bool))

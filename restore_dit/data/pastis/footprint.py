"""A patch's footprint in Lambert-93, and the affine transform that fits it.

Pixels are squares of 10 m in the UTM zone of their Sentinel-2 tile. In Lambert-93, a patch is a quadrilateral rotated
by up to 5° and stretched by up to 0.1 %; over 1280 m an affine transform approximates it to within centimetres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.pastis.layout import CRS, PIXEL
from restore_dit.series import Georeference

_LARGEST_RESIDUAL = 0.5 * PIXEL
_LARGEST_STRETCH = 0.02


@dataclass(frozen=True)
class Footprint:
    """`georeference` of the patch's pixels, None if the footprint is not that of such a square; `residual` is the
    largest distance in metres between a corner of the footprint and the corresponding corner of the grid; `polygon` is
    the footprint as WKT."""

    georeference: Georeference | None
    residual: float
    polygon: str


def fit_footprint(ring: NDArray[np.float64], size: tuple[int, int]) -> Footprint:
    """The least-squares affine transform from the grid's corners to the footprint's.

    Args:
        ring: [n, 2] easting and northing in metres, closed or not, in any order and direction; may be empty.
        size: (H, W) of the patch in pixels.
    """
    polygon = _well_known_text(ring)
    if len(np.unique(ring, axis=0)) < 4:
        return Footprint(None, float("nan"), polygon)
    height, width = size
    # Rotated by only a few degrees, so each corner is the ring's farthest point in its diagonal direction.
    directions = np.array([(-1, 1), (1, 1), (1, -1), (-1, -1)])  # upper left, upper right, lower right, lower left
    corners = ring[np.argmax(ring @ directions.T, axis=0)]
    grid = np.array([(0, 0, 1), (width, 0, 1), (width, height, 1), (0, height, 1)], np.float64)
    centre = corners.mean(axis=0)
    coefficients, *_ = np.linalg.lstsq(grid, corners - centre, rcond=None)
    residual = float(np.linalg.norm(grid @ coefficients + centre - corners, axis=1).max())
    sides = np.linalg.norm(coefficients[:2], axis=1)
    if residual > _LARGEST_RESIDUAL or np.abs(sides / PIXEL - 1).max() > _LARGEST_STRETCH:
        return Footprint(None, residual, polygon)
    (a, d), (b, e), (c, f) = coefficients
    transform = (float(a), float(b), float(c + centre[0]), float(d), float(e), float(f + centre[1]))
    return Footprint(Georeference(CRS, transform), residual, polygon)


def _well_known_text(ring: NDArray[np.float64]) -> str:
    if not len(ring):
        return "POLYGON EMPTY"
    return "POLYGON ((" + ", ".join(f"{x:.3f} {y:.3f}" for x, y in ring) + "))"

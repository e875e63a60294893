"""Compares grids, and resamples an image from one grid to another in the same CRS, axis by axis.

A grid is a north-up `GeoBox`: shape, affine transform of the upper left corners, CRS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.transform import Affine

Method = Literal["nearest", "bilinear"]

_FINER = 0.75
"""Sources with pixels smaller than this share of the target's are averaged instead of interpolated."""

SAME_PIXEL = 0.01
"""Tolerance, as a share of a pixel, within which two pixels are the same: coordinates may be rounded, or noisy after
warping."""

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Placement:
    """Where a file's images lie: `covers` are the pixels that it contains according to its coordinates; `content`, of
    the same shape, is where they really belong once products are registered to each other."""

    covers: GeoBox
    content: GeoBox


def on_lattice(grid: GeoBox, lattice: GeoBox) -> GeoBox | None:
    """The grid as a part of the infinite lattice of another grid's pixels, or None if its pixels do not coincide with
    the lattice."""
    to_pixels = ~lattice.affine @ grid.affine
    height, width = grid.shape
    corners = np.array([to_pixels @ (0, 0), to_pixels @ (width, height)])
    left_top, right_bottom = np.rint(corners).astype(int)
    apart = abs(corners - np.rint(corners)).max() > SAME_PIXEL
    if apart or tuple(right_bottom - left_top) != (width, height) or grid.crs != lattice.crs:
        return None
    return GeoBox(grid.shape, lattice.affine @ Affine.translation(*map(int, left_top)), lattice.crs)


def same_grid(one: GeoBox, other: GeoBox) -> bool:
    """Whether two grids have the same pixels."""
    moved = on_lattice(one, other)
    return moved is not None and moved == other


def resample(images: NDArray[np.floating], source: Placement, target: GeoBox, method: Method) -> NDArray[np.float32]:
    """Images [T, h, w] resampled from `source` to `target`: float32 [T, H, W], NaN for no data.

    A target pixel has data if the source pixel nearest to its centre does. Bilinear interpolation and averaging ignore
    source pixels without data.
    """
    nearest_rows, nearest_columns = (_nearest(source, target, axis) for axis in (0, 1))
    inside = (nearest_rows >= 0)[:, None] & (nearest_columns >= 0)
    picked = np.where(inside, images[:, nearest_rows][:, :, nearest_columns], np.nan)
    if on_lattice(source.content, target) is not None:  # true for most files
        return picked.astype(np.float32)
    rows, columns = (_weights(source, target, axis, method) for axis in (0, 1))
    known = ~np.isnan(images)
    # Separable: two products with small matrices replace a loop over pixels. Weights of missing pixels are divided out.
    weighted = rows @ np.where(known, images, 0.0) @ columns.T
    weights = rows @ known.astype(np.float64) @ columns.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.isnan(picked), np.nan, weighted / weights).astype(np.float32)


def resample_classes(classes: NDArray[np.uint8], source: Placement, target: GeoBox, outside: int) -> NDArray[np.uint8]:
    """Classes uint8 [T, H, W] of the nearest source pixel, `outside` where the source does not reach."""
    rows, columns = (_nearest(source, target, axis) for axis in (0, 1))
    inside = (rows >= 0)[:, None] & (columns >= 0)
    return np.where(inside, classes[:, rows][:, :, columns], np.uint8(outside)).astype(np.uint8)


def overlaps(source: Placement, target: GeoBox) -> bool:
    """Whether the source covers the centre of any target pixel."""
    return all((_nearest(source, target, axis) >= 0).any() for axis in (0, 1))


def _positions(source: GeoBox, target: GeoBox, axis: int) -> NDArray[np.float64]:
    """Positions of the centres of the target's rows (axis 0) or columns (1), in rows or columns of the source."""
    along = ~source.affine @ target.affine
    step, start = (along.e, along.f) if axis == 0 else (along.a, along.c)
    return step * (np.arange(target.shape[axis]) + 0.5) + start - 0.5


def _nearest(source: Placement, target: GeoBox, axis: int) -> NDArray[np.intp]:
    """Index of the source pixel nearest to each target centre, -1 where the source does not cover that centre.

    Registered content may be shifted by up to a pixel against what it covers; there the outermost pixel is used.
    """
    last = source.covers.shape[axis] - 1
    covered = _positions(source.covers, target, axis)
    position = _positions(source.content, target, axis)
    inside = (covered >= -0.5 - _ROUNDING) & (covered <= last + 0.5 + _ROUNDING)
    near = (position >= -1 - _ROUNDING) & (position <= last + 1 + _ROUNDING)
    # Of two equally near pixels always the first, regardless of rounding.
    index = np.clip(np.ceil(position - 0.5 - _ROUNDING), 0, last).astype(np.intp)
    return np.where(inside & near, index, -1)


def _weights(source: Placement, target: GeoBox, axis: int, method: Method) -> NDArray[np.float64]:
    """Weights of the source pixels in each target pixel, [target, source]; zero rows outside."""
    nearest = _nearest(source, target, axis)
    inside = nearest >= 0
    many, few = target.shape[axis], source.content.shape[axis]
    weights = np.zeros((many, few))
    position = _positions(source.content, target, axis)
    along = ~source.content.affine @ target.affine
    step = abs(along.e if axis == 0 else along.a)  # source pixels per target pixel
    if 1 / step < _FINER:
        pixel = np.arange(few)
        lower, upper = position[:, None] - step / 2, position[:, None] + step / 2
        overlap = np.minimum(upper, pixel + 0.5) - np.maximum(lower, pixel - 0.5)
        return np.where(inside[:, None], np.clip(overlap, 0, None), 0.0)
    if method == "nearest":
        weights[np.flatnonzero(inside), nearest[inside]] = 1.0
        return weights
    position = np.clip(position, 0, few - 1)
    below = np.minimum(np.floor(position + _ROUNDING).astype(np.intp), few - 1)
    above = np.minimum(below + 1, few - 1)
    share = np.clip(position - below, 0, 1)
    share[share < _ROUNDING] = 0.0
    every = np.arange(many)
    weights[every, below] += 1 - share
    weights[every, above] += share
    weights[~inside] = 0.0
    return weights

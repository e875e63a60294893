"""Bringing an image from one regular grid to another in the same CRS, axis by axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Method = Literal["nearest", "bilinear"]

_FINER = 0.75
"""A source whose pixels are smaller than this share of the target's is averaged instead of interpolated."""


@dataclass(frozen=True)
class Axis:
    """Pixel centres along one axis, in the unit of the CRS: `start`, `start + spacing`, … (spacing may be negative)."""

    start: float
    spacing: float
    length: int

    @property
    def centres(self) -> NDArray[np.float64]:
        """Coordinates of the pixel centres [length]."""
        return self.start + self.spacing * np.arange(self.length, dtype=np.float64)

    @property
    def edge(self) -> float:
        """Where the first pixel begins."""
        return self.start - self.spacing / 2

    def offset(self, distance: float) -> Axis:
        """The axis moved by a distance in the CRS's unit."""
        return Axis(self.start + distance, self.spacing, self.length)

    def ascending(self, direction: Literal[1, -1]) -> Axis:
        """The same pixels in the order in which their coordinates rise (1) or fall (-1)."""
        if np.sign(self.spacing) == direction:
            return self
        return Axis(float(self.centres[-1]), -self.spacing, self.length)


@dataclass(frozen=True)
class Grid:
    """Two axes: `y` for the rows, `x` for the columns."""

    y: Axis
    x: Axis

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.y.length, self.x.length

    @property
    def pixel_area(self) -> float:
        """Of one pixel, in the CRS's unit squared."""
        return abs(self.y.spacing * self.x.spacing)

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """GDAL-ordered affine (a, b, c, d, e, f) of the upper left corners."""
        return self.x.spacing, 0.0, self.x.edge, 0.0, self.y.spacing, self.y.edge

    def north_up(self) -> Grid:
        """The same pixels with the first row in the north and the first column in the west."""
        return Grid(self.y.ascending(-1), self.x.ascending(1))


def resample(images: NDArray[np.floating], source: Grid, target: Grid, method: Method) -> NDArray[np.float32]:
    """Images [T, h, w] on `source` brought to `target`: float32 [T, H, W], NaN where there is no data.

    A target pixel has data where the source pixel nearest to its centre has. Bilinear interpolation and averages
    leave out source pixels without data.
    """
    rows, columns = _weights(source.y, target.y, method), _weights(source.x, target.x, method)
    known = ~np.isnan(images)
    nearest_rows, nearest_columns = _nearest(source.y, target.y), _nearest(source.x, target.x)
    inside = (nearest_rows >= 0)[:, None] & (nearest_columns >= 0)
    has_data = known[:, nearest_rows][:, :, nearest_columns] & inside
    weighted = rows @ np.where(known, images, 0.0) @ columns.T
    weights = rows @ known.astype(np.float64) @ columns.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(has_data, weighted / weights, np.nan).astype(np.float32)


def resample_classes(classes: NDArray[np.uint8], source: Grid, target: Grid, outside: int) -> NDArray[np.uint8]:
    """Classes uint8 [T, h, w] of the nearest source pixel [T, H, W], `outside` where the source does not reach."""
    rows, columns = _nearest(source.y, target.y), _nearest(source.x, target.x)
    inside = (rows >= 0)[:, None] & (columns >= 0)
    return np.where(inside, classes[:, rows][:, :, columns], np.uint8(outside)).astype(np.uint8)


def overlaps(source: Grid, target: Grid) -> bool:
    """Whether any pixel of the target lies on the source."""
    return bool((_nearest(source.y, target.y) >= 0).any() and (_nearest(source.x, target.x) >= 0).any())


def _nearest(source: Axis, target: Axis) -> NDArray[np.intp]:
    """Index of the source pixel nearest to each target centre, -1 where none is.

    Half a source pixel beyond the edge still counts: a target pixel may stick out of the last source pixel.
    """
    position = (target.centres - source.start) / source.spacing
    # Of two equally near ones the first, whatever rounding says.
    index = np.clip(np.ceil(position - 0.5 - 1e-6), 0, source.length - 1).astype(np.intp)
    reach = 1.0 + 1e-6
    return np.where((position >= -reach) & (position <= source.length - 1 + reach), index, -1)


def _weights(source: Axis, target: Axis, method: Method) -> NDArray[np.float64]:
    """Weight of each source pixel in each target pixel [target, source]; zero rows outside."""
    nearest = _nearest(source, target)
    inside = nearest >= 0
    weights = np.zeros((target.length, source.length))
    position = (target.centres - source.start) / source.spacing
    if abs(source.spacing) < _FINER * abs(target.spacing):
        half = abs(target.spacing / source.spacing) / 2
        pixel = np.arange(source.length)
        overlap = np.minimum(position[:, None] + half, pixel + 0.5) - np.maximum(position[:, None] - half, pixel - 0.5)
        return np.where(inside[:, None], np.clip(overlap, 0, None), 0.0)
    if method == "nearest":
        weights[np.flatnonzero(inside), nearest[inside]] = 1.0
        return weights
    position = np.clip(position, 0, source.length - 1)
    lower = np.minimum(np.floor(position + 1e-6).astype(np.intp), source.length - 1)
    upper = np.minimum(lower + 1, source.length - 1)
    share = np.clip(position - lower, 0, 1)
    share[share < 1e-6] = 0.0
    every = np.arange(target.length)
    weights[every, lower] += 1 - share
    weights[every, upper] += share
    weights[~inside] = 0.0
    return weights

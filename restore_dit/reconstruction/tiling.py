"""Splits an area larger than the network's input into spatial tiles and blends them without seams."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_STEPS_PER_UNIT = 2**24
_LIMIT = 64
"""Limit of blended magnitudes: half of what int32 can represent, so that rounding never overflows."""


class SpatialTile(NamedTuple):
    """A rectangle within an area, in pixels: its upper left corner and its size."""

    row: int
    column: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        return slice(self.row, self.row + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.column, self.column + self.width)

    def intersection(self, other: SpatialTile) -> SpatialTile | None:
        """The overlap of both rectangles, or None."""
        row, column = max(self.row, other.row), max(self.column, other.column)
        height = min(self.rows.stop, other.rows.stop) - row
        width = min(self.columns.stop, other.columns.stop) - column
        return SpatialTile(row, column, height, width) if height > 0 and width > 0 else None

    def within(self, other: SpatialTile) -> SpatialTile:
        """The same rectangle relative to the corner of `other`."""
        return self._replace(row=self.row - other.row, column=self.column - other.column)


def _starts(extent: int, size: int, overlap: int) -> list[int]:
    """Start positions of tiles along one axis: every size − overlap pixels from 0; the last tile ends at the edge."""
    if extent <= size:
        return [0]
    stride = size - overlap
    return [*range(0, extent - size, stride), extent - size]


def spatial_tiles(height: int, width: int, size: int = 128, overlap: int = 32) -> list[SpatialTile]:
    """Tiles that cover an area of height × width pixels, row by row.

    The grid is anchored to the area's upper left corner. Every tile is size × size, so that the network always has its
    full context, or as large as the area where that is smaller. Neighbours share at least `overlap` pixels.

    Raises:
        ValueError: the area is empty, or the overlap is not between 0 and size − 1.
    """
    if not 0 <= overlap < size or height < 1 or width < 1:
        raise ValueError(f"cannot tile {height} × {width} pixels with tiles of {size} and overlap {overlap}")
    return [
        SpatialTile(row, column, min(size, height), min(size, width))
        for row in _starts(height, size, overlap)
        for column in _starts(width, size, overlap)
    ]


def _axis_weights(extent: int, size: int, overlap: int) -> dict[int, NDArray[np.float64]]:
    """Maps tile starts to weights [min(size, extent)] along one axis; at each pixel, the weights sum to 1."""
    starts = _starts(extent, size, overlap)
    length = min(size, extent)
    ramp = np.sin(np.pi / 2 * (np.arange(overlap) + 0.5) / max(overlap, 1)) ** 2
    raw = {}
    for start in starts:
        weights = np.ones(length)
        if start > 0:
            weights[:overlap] *= ramp
        if start + length < extent:
            weights[length - overlap :] *= ramp[::-1]
        raw[start] = weights
    total = np.zeros(extent)
    for start, weights in raw.items():
        total[start : start + length] += weights
    return {start: weights / total[start : start + length] for start, weights in raw.items()}


class BlendWeights:
    """Blending weights of the tiles of `spatial_tiles(height, width, size, overlap)`. They have raised-cosine ramps
    over the overlap with a neighbour, none at the area's edge, and sum to 1 at every pixel."""

    def __init__(self, height: int, width: int, size: int = 128, overlap: int = 32) -> None:
        self._rows = _axis_weights(height, size, overlap)
        self._columns = _axis_weights(width, size, overlap)

    def __getitem__(self, tile: SpatialTile) -> NDArray[np.float64]:
        """Weights of one tile, [tile.height, tile.width]."""
        return np.outer(self._rows[tile.row], self._columns[tile.column])


class Blend:
    """A weighted sum of overlapping tiles that is identical to the bit in whatever order they are added.

    Floating-point sums depend on their order, so the sum is kept in integer steps of 2⁻²⁴ (6e-8, the resolution of
    float32 near 1), which take four bytes per value, like the float32 result.
    """

    def __init__(self, leading: tuple[int, ...], region: SpatialTile) -> None:
        """leading: sizes of the axes before rows and columns, such as (T, C). region: the part of the area to fill, in
        the same coordinates as the tiles, which may extend beyond it."""
        self._region = region
        self._sum = np.zeros((*leading, region.height, region.width), np.int32)

    def add(self, tile: SpatialTile, values: NDArray[np.floating], weights: NDArray[np.float64]) -> None:
        """Adds `values` [..., tile.height, tile.width] times `weights` [tile.height, tile.width]. A tile outside the
        region adds nothing.

        Raises:
            ValueError: a value is not finite or its magnitude is not below 64.
        """
        common = tile.intersection(self._region)
        if common is None:
            return
        source, target = common.within(tile), common.within(self._region)
        part = values[..., source.rows, source.columns]
        if not np.abs(part).max(initial=0) < _LIMIT:
            raise ValueError(f"values to blend must be finite and of magnitude below {_LIMIT}")
        steps = np.rint(part * (weights[source.rows, source.columns] * _STEPS_PER_UNIT))
        self._sum[..., target.rows, target.columns] += steps.astype(np.int32)

    def result(self) -> NDArray[np.float32]:
        """The sum [..., region.height, region.width], complete once every tile that intersects the region is added."""
        result = self._sum.astype(np.float32)
        result *= np.float32(1 / _STEPS_PER_UNIT)  # a power of two: no second rounding, and no copy in float64
        return result


def pad_to_multiple(values: NDArray, multiple: int) -> NDArray:
    """Pads `values` [..., H, W] by reflection at the lower and right edges, up to the next multiple. Returns the
    original array if nothing is to be padded. `padded[..., :H, :W]` undoes it."""
    *leading, height, width = values.shape
    below, right = -height % multiple, -width % multiple
    if not below and not right:
        return values
    return np.pad(values, [(0, 0)] * len(leading) + [(0, below), (0, right)], mode="reflect")

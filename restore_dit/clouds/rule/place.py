"""A tile's latitude, and the conversion from metres to pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform

from restore_dit.data.crs import coordinate_system
from restore_dit.data.pixel_size import pixel_metres
from restore_dit.series import Georeference

_UNKNOWN_PIXEL = 10.0


@dataclass(frozen=True)
class Place:
    """`latitude` in degrees, None if unknown; `pixels` [2, 2] converts metres (east, north) to pixels (down, right)."""

    latitude: float | None
    pixels: NDArray[np.floating]

    @property
    def pixel_area(self) -> float:
        """Area of a pixel in square metres."""
        return float(1 / abs(np.linalg.det(self.pixels)))

    @property
    def pixel_sides(self) -> tuple[float, float]:
        """Height and width of a pixel in metres."""
        tall, wide = np.linalg.norm(np.linalg.inv(self.pixels), axis=0)
        return float(tall), float(wide)


def place_of(georeference: Georeference | None, size: tuple[int, int]) -> Place:
    """The place of a tile of (H, W) pixels. Without a georeference, it has north-up pixels of 10 m at an unknown
    latitude. The convergence between true and grid north, at most a few degrees, is neglected.

    Raises:
        UserError: the tile's coordinate reference system is unknown.
    """
    if georeference is None:
        return Place(None, np.array([[0.0, -1.0], [1.0, 0.0]]) / _UNKNOWN_PIXEL)
    a, b, c, d, e, f = georeference.transform
    row, column = size[0] / 2, size[1] / 2
    x, y = a * column + b * row + c, d * column + e * row + f
    _, (latitude,) = transform(coordinate_system(georeference), CRS.from_epsg(4326), [x], [y])[:2]
    return Place(float(latitude), np.linalg.inv(pixel_metres(georeference, size)))

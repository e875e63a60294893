"""The size of a tile's pixels on the ground in metres, whatever the units of its grid."""

from __future__ import annotations

import numpy as np
import pyproj
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform

from restore_dit.data.crs import coordinate_system
from restore_dit.errors import UserError
from restore_dit.series import Georeference

_SMALLEST, _LARGEST = 1.0, 1000.0
"""Plausible range, in metres, of the pixel size of a Sentinel-2 series, however it was resampled."""

_TRUE_TO_SCALE = 0.05
"""A projection's units are taken at face value if they are within this share of the true ground distance: 10 m in UTM
stays 10 m. Web Mercator's unit is half a metre at 60° north."""

_EARTH = pyproj.Geod(ellps="WGS84")


def pixel_metres(georeference: Georeference, size: tuple[int, int]) -> NDArray[np.float64]:
    """Matrix [2, 2] that converts pixel offsets (down, right) in the middle of a tile of (H, W) pixels to metres (east,
    north); NaN where the coordinates do not lie on Earth.

    Raises:
        UserError: the tile's CRS is unknown.
    """
    crs = coordinate_system(georeference)
    grid = Affine(*georeference.transform)
    height, width = size
    middle = [grid @ (width / 2 + right, height / 2 + down) for right, down in ((0, 0), (0, 1), (1, 0))]
    longitude, latitude = (np.array(part) for part in transform(crs, CRS.from_epsg(4326), *zip(*middle, strict=True)))
    if not (np.isfinite(longitude).all() and (abs(latitude) <= 90).all()):
        return np.full((2, 2), np.nan)
    azimuth, _, distance = _EARTH.inv(longitude[[0, 0]], latitude[[0, 0]], longitude[1:], latitude[1:])
    ground = distance * np.array([np.sin(np.deg2rad(azimuth)), np.cos(np.deg2rad(azimuth))])
    if crs.is_geographic:
        return ground
    stated = np.array([[grid.b, grid.a], [grid.e, grid.d]]) * crs.linear_units_factor[1]
    share = np.linalg.norm(ground, axis=0) / np.linalg.norm(stated, axis=0)
    return stated if (abs(share - 1) <= _TRUE_TO_SCALE).all() else ground


def pixel_sides(georeference: Georeference, size: tuple[int, int]) -> tuple[float, float]:
    """Height and width in metres of a pixel in the middle of a tile of (H, W) pixels.

    Raises:
        UserError: the tile's CRS is unknown.
    """
    tall, wide = np.linalg.norm(pixel_metres(georeference, size), axis=0)
    return float(tall), float(wide)


def require_sentinel_pixels(uri: str, georeference: Georeference, size: tuple[int, int]) -> None:
    """Rejects a file whose coordinates and CRS do not match, such as degrees labelled as UTM.

    Raises:
        UserError: the pixels have a size that no Sentinel-2 image has, or do not lie on Earth.
    """
    sides = pixel_sides(georeference, size)
    if not all(_SMALLEST <= side <= _LARGEST for side in sides):
        right, down = georeference.transform[0], georeference.transform[4]
        found = "lie nowhere on Earth" if np.isnan(sides).any() else f"measure {sides[0]:.3g}×{sides[1]:.3g} m"
        raise UserError(
            f"{uri}: steps of {abs(down):.6g} and {abs(right):.6g} in {georeference.crs[:40]} mean pixels that {found};"
            f" those of Sentinel-2 measure {_SMALLEST:g} to {_LARGEST:g} m: correct its CRS or its coordinates"
        )


def shown_sides(sides: tuple[float, float]) -> str:
    """`10` or `20.3×18.1`, rounded to decimetres, since sizes in other projections rarely agree to the millimetre."""
    tall, wide = (f"{round(side, 1):g}" for side in sides)
    return tall if tall == wide else f"{tall}×{wide}"

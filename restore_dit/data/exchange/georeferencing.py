"""Converts a tile's georeference to and from NetCDF's terms: a grid mapping and coordinates of pixel centres."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyproj
import xarray

from restore_dit.data.crs import coordinate_system
from restore_dit.data.cubes.georeference import place_of_images
from restore_dit.errors import UserError
from restore_dit.series import Georeference


def grid_mapping(georeference: Georeference) -> dict[str, Any]:
    """Attributes of the grid mapping variable: CF parameters and `crs_wkt`, and GDAL's `spatial_ref` and
    `GeoTransform`."""
    crs = coordinate_system(georeference)
    a, b, c, d, e, f = georeference.transform
    return {
        **pyproj.CRS.from_wkt(crs.to_wkt()).to_cf(),
        "crs_wkt": crs.to_wkt(version="WKT2_2019"),
        "spatial_ref": crs.to_wkt(),
        "GeoTransform": " ".join(repr(float(value)) for value in (c, a, b, f, d, e)),
    }


def pixel_centres(georeference: Georeference, height: int, width: int) -> dict[str, tuple]:
    """The coordinates y [H] and x [W] of pixel centres, in units of the CRS.

    Raises:
        UserError: the grid is rotated relative to its CRS, which one coordinate per row and column cannot express.
    """
    a, b, c, d, e, f = georeference.transform
    if b or d:
        raise UserError("NetCDF cannot represent a grid rotated relative to its CRS: write GeoTIFFs instead")
    geographic = coordinate_system(georeference).is_geographic
    names = ("latitude", "longitude") if geographic else ("projection_y_coordinate", "projection_x_coordinate")
    units = ("degrees_north", "degrees_east") if geographic else ("m", "m")
    return {
        "y": ("y", f + e * (np.arange(height) + 0.5), {"standard_name": names[0], "units": units[0], "axis": "Y"}),
        "x": ("x", c + a * (np.arange(width) + 0.5), {"standard_name": names[1], "units": units[1], "axis": "X"}),
    }


def georeference_of(uri: str, dataset: xarray.Dataset) -> Georeference | None:
    """A file's georeference, from its coordinates y and x and its CRS; None without coordinates.

    Raises:
        UserError: as for `place_of_images`.
    """
    if "y" not in dataset.coords or "x" not in dataset.coords:
        return None
    return place_of_images(uri, dataset, ("y", "x"))

"""A tile's place in NetCDF's terms: a grid mapping and pixel centres, to and from a georeference."""

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
    """Attributes of the grid mapping variable: CF's parameters and `crs_wkt`; `spatial_ref` and `GeoTransform` are
    GDAL's."""
    crs = coordinate_system(georeference)
    a, b, c, d, e, f = georeference.transform
    return {
        **pyproj.CRS.from_wkt(crs.to_wkt()).to_cf(),
        "crs_wkt": crs.to_wkt(version="WKT2_2019"),
        "spatial_ref": crs.to_wkt(),
        "GeoTransform": " ".join(repr(float(value)) for value in (c, a, b, f, d, e)),
    }


def pixel_centres(georeference: Georeference, height: int, width: int) -> dict[str, tuple]:
    """The coordinates y [H] and x [W] of pixel centres, in units of the coordinate system.

    Raises:
        UserError: the grid is rotated against its coordinate system, which one coordinate for each row and column
            cannot say.
    """
    a, b, c, d, e, f = georeference.transform
    if b or d:
        raise UserError("NetCDF cannot hold a grid rotated against its coordinate system: write GeoTIFFs instead")
    geographic = coordinate_system(georeference).is_geographic
    names = ("latitude", "longitude") if geographic else ("projection_y_coordinate", "projection_x_coordinate")
    units = ("degrees_north", "degrees_east") if geographic else ("m", "m")
    return {
        "y": ("y", f + e * (np.arange(height) + 0.5), {"standard_name": names[0], "units": units[0], "axis": "Y"}),
        "x": ("x", c + a * (np.arange(width) + 0.5), {"standard_name": names[1], "units": units[1], "axis": "X"}),
    }


def georeference_of(uri: str, dataset: xarray.Dataset) -> Georeference | None:
    """Where a file's pixels lie, by its coordinates y and x and its CRS; None where it has no coordinates.

    Raises:
        UserError: as `place_of_images`.
    """
    if "y" not in dataset.coords or "x" not in dataset.coords:
        return None
    return place_of_images(uri, dataset, ("y", "x"))

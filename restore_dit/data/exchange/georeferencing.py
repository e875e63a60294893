"""A tile's place in NetCDF's terms: a grid mapping and pixel centres, to and from a georeference."""

from __future__ import annotations

import numpy as np
import xarray
from rasterio.crs import CRS

from restore_dit.data.crs import crs_from_text
from restore_dit.data.cubes.georeference import crs_of, grid_of
from restore_dit.errors import UserError
from restore_dit.series import Georeference


def coordinate_system(georeference: Georeference) -> CRS:
    """The CRS as rasterio has it.

    Raises:
        UserError: nobody knows it.
    """
    try:
        return crs_from_text(georeference.crs)
    except ValueError as error:  # rasterio's CRSError is one
        raise UserError(
            f"unknown coordinate system {georeference.crs!r}: give an authority code such as EPSG:32631, or WKT"
        ) from error


def grid_mapping(georeference: Georeference) -> dict[str, str]:
    """Attributes of the grid mapping variable: `crs_wkt` is CF's, `spatial_ref` and `GeoTransform` are GDAL's."""
    crs = coordinate_system(georeference)
    a, b, c, d, e, f = georeference.transform
    return {
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
        UserError: coordinates without a CRS, not evenly spaced, or in degrees.
    """
    if "y" not in dataset.coords or "x" not in dataset.coords:
        return None
    y, x = (np.asarray(dataset[name].values) for name in ("y", "x"))
    grid = grid_of(uri, y, x)
    crs = crs_of(uri, dataset, None, ("y", "x"))
    down, right = grid.y.spacing, grid.x.spacing
    return Georeference(crs, (right, 0.0, grid.x.start - right / 2, 0.0, down, grid.y.start - down / 2))

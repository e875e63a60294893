"""Coordinate reference systems from text and parameters in files of unknown origin, and the size of pixels in metres on
the ground, whatever the units of their grid.

rasterio and PROJ also accept file names and URLs as CRS definitions, which they would open or fetch. Here only
self-contained definitions are accepted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
import pyproj.exceptions
import rasterio
from numpy.typing import NDArray
from pyproj.crs.coordinate_system import Ellipsoidal2DCS
from pyproj.crs.enums import Ellipsoidal2DCSAxis
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.transform import Affine
from rasterio.warp import transform

from restore_dit.errors import UserError
from restore_dit.series import Georeference

_CODE = re.compile(r"(?:[A-Za-z][A-Za-z0-9_]*:|urn:ogc:def:crs:[A-Za-z]+:[\d.]*:)?\d+")
_WKT = re.compile(
    r"\s*(?:GEOGCS|PROJCS|GEOCCS|LOCAL_CS|COMPD_CS|BOUNDCRS|COMPOUNDCRS"
    r"|(?:GEOD|GEODETIC|GEOG|GEOGRAPHIC|PROJ|PROJECTED|ENG|ENGINEERING)CRS)\s*[\[(]",
    re.IGNORECASE,
)
_PROJ = re.compile(r"\s*\+(?:init=epsg:\d+|proj=\w+)(?:\s+\+\w+(?:=[\w.@,-]*)?)*\s*", re.IGNORECASE)
_GRIDS = re.compile(r"grids\s*=\s*(?!@null\b)|PARAMETERFILE", re.IGNORECASE)

_DATUM, _ELLIPSOID = "horizontal_datum_name", "reference_ellipsoid_name"
_AXES = Ellipsoidal2DCS(axis=Ellipsoidal2DCSAxis.LATITUDE_LONGITUDE)
"""Axis order in EPSG definitions; says nothing about the order of coordinates in files."""

_WGS_84 = {"semi_major_axis": 6378137.0, "inverse_flattening": 298.257223563}


@lru_cache(maxsize=256)
def crs_from_text(text: str) -> CRS:
    """The CRS for an authority code (`EPSG:32631`, `32631`), WKT or a PROJ string.

    Raises:
        CRSError: the text is none of these, refers to grid files, or is unknown.
    """
    if not _GRIDS.search(text):
        with rasterio.Env():  # without it, GDAL also prints an error message of its own
            if _WKT.match(text):
                return CRS.from_wkt(text)
            if _CODE.fullmatch(text) or _PROJ.fullmatch(text):
                return CRS.from_user_input(int(text) if text.isdigit() else text)
    raise CRSError("neither an authority code nor WKT nor a PROJ string")


def crs_from_parameters(attributes: Mapping[str, Any]) -> CRS:
    """The CRS that the numeric attributes of a CF grid mapping describe (CF conventions, appendix F).

    If no datum is named, the ellipsoid of WGS 84 implies the datum WGS 84, which Sentinel data use.

    Raises:
        CRSError: not a grid mapping, or its parameters do not define a CRS.
    """
    numbers = {
        key: np.asarray(value).tolist()
        for key, value in attributes.items()
        if np.asarray(value).dtype.kind
        in "iuf"  # text could refer to files; only names that PROJ looks up in its own tables are added below
    }
    names = {key: str(attributes[key]) for key in ("grid_mapping_name", _DATUM, _ELLIPSOID) if key in attributes}
    if _DATUM not in names and all(numbers.get(key) == value for key, value in _WGS_84.items()):
        names[_DATUM] = "World Geodetic System 1984"
    try:
        return crs_from_text(pyproj.CRS.from_cf({**numbers, **names}, ellipsoidal_cs=_AXES).to_wkt())
    except (pyproj.exceptions.CRSError, KeyError, TypeError, ValueError) as error:
        raise CRSError(f"not a grid mapping defined by parameters: {error}") from None


def crs_name(crs: CRS) -> str:
    """An authority string such as EPSG:32631 if the CRS has one, otherwise WKT."""
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_wkt())


def coordinate_system(georeference: Georeference) -> CRS:
    """The CRS of a tile's coordinates.

    Raises:
        UserError: the CRS is unknown.
    """
    try:
        return crs_from_text(georeference.crs)
    except CRSError:
        shown = georeference.crs if len(georeference.crs) <= 40 else f"{georeference.crs[:40]}…"
        raise UserError(
            f"its coordinate reference system '{shown}' is unknown: ingest the tile again, or specify one such as "
            "EPSG:32631 or WKT"
        ) from None


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

"""Coordinate reference systems from text and parameters, of files that somebody else made.

What rasterio and PROJ take for one may also be the name of a file or an address, which they would read and fetch.
Here it must say itself what it is.
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
from rasterio.crs import CRS
from rasterio.errors import CRSError

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
_WGS_84 = {"semi_major_axis": 6378137.0, "inverse_flattening": 298.257223563}


@lru_cache(maxsize=256)
def crs_from_text(text: str) -> CRS:
    """The system of an authority's code (`EPSG:32631`, `32631`), WKT or a PROJ string.

    Raises:
        CRSError: it is none of these, needs grids of a file, or nobody knows it.
    """
    if not _GRIDS.search(text):
        with rasterio.Env():  # without it GDAL prints its own line, too
            if _WKT.match(text):
                return CRS.from_wkt(text)
            if _CODE.fullmatch(text) or _PROJ.fullmatch(text):
                return CRS.from_user_input(int(text) if text.isdigit() else text)
    raise CRSError("neither an authority's code nor WKT nor a PROJ string")


def crs_from_parameters(attributes: Mapping[str, Any]) -> CRS:
    """The system that the attributes of a CF grid mapping describe by numbers (CF conventions, appendix F).

    Without the name of a datum, WGS 84's ellipsoid stands for WGS 84, which is Sentinel's.

    Raises:
        CRSError: no grid mapping, or parameters that do not make one.
    """
    numbers = {
        key: np.asarray(value).tolist()
        for key, value in attributes.items()
        if np.asarray(value).dtype.kind in "iuf"  # of texts only names that PROJ looks up in its own tables
    }
    names = {key: str(attributes[key]) for key in ("grid_mapping_name", _DATUM, _ELLIPSOID) if key in attributes}
    if _DATUM not in names and all(numbers.get(key) == value for key, value in _WGS_84.items()):
        names[_DATUM] = "World Geodetic System 1984"
    try:
        return crs_from_text(pyproj.CRS.from_cf({**numbers, **names}).to_wkt())
    except (pyproj.exceptions.CRSError, KeyError, TypeError, ValueError) as error:
        raise CRSError(f"no grid mapping by parameters: {error}") from None


def crs_name(crs: CRS) -> str:
    """An authority string such as EPSG:32631 where the CRS has one, else WKT."""
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_wkt())


def coordinate_system(georeference: Georeference) -> CRS:
    """The reference system of a tile's coordinates.

    Raises:
        UserError: nobody knows it.
    """
    try:
        return crs_from_text(georeference.crs)
    except CRSError:
        shown = georeference.crs if len(georeference.crs) <= 40 else f"{georeference.crs[:40]}…"
        raise UserError(
            f"its coordinate reference system '{shown}' is unknown: ingest the tile again, or give one such as "
            "EPSG:32631 or WKT"
        ) from None

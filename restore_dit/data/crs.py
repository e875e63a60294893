"""Coordinate reference systems from text, of files that somebody else made.

What rasterio takes for one may also be the name of a file or an address, which GDAL and PROJ would read and fetch.
Here it must say itself what it is.
"""

from __future__ import annotations

import re

from rasterio.crs import CRS
from rasterio.errors import CRSError

_CODE = re.compile(r"(?:[A-Za-z][A-Za-z0-9_]*:|urn:ogc:def:crs:[A-Za-z]+:[\d.]*:)?\d+")
_WKT = re.compile(
    r"\s*(?:GEOGCS|PROJCS|GEOCCS|LOCAL_CS|COMPD_CS|BOUNDCRS|COMPOUNDCRS"
    r"|(?:GEOD|GEODETIC|GEOG|GEOGRAPHIC|PROJ|PROJECTED|ENG|ENGINEERING)CRS)\s*[\[(]",
    re.IGNORECASE,
)
_PROJ = re.compile(r"\s*\+(?:init=epsg:\d+|proj=\w+)(?:\s+\+\w+(?:=[\w.@,-]*)?)*\s*", re.IGNORECASE)
_GRIDS = re.compile(r"grids\s*=\s*(?!@null\b)|PARAMETERFILE", re.IGNORECASE)


def crs_from_text(text: str) -> CRS:
    """The system of an authority's code (`EPSG:32631`, `32631`), WKT or a PROJ string.

    Raises:
        CRSError: it is none of these, needs grids of a file, or nobody knows it.
    """
    if not _GRIDS.search(text):
        if _WKT.match(text):
            return CRS.from_wkt(text)
        if _CODE.fullmatch(text) or _PROJ.fullmatch(text):
            return CRS.from_user_input(int(text) if text.isdigit() else text)
    raise CRSError("neither an authority's code nor WKT nor a PROJ string")

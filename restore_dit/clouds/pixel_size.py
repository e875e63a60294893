"""How many metres a tile's pixels measure, whatever the units of its grid."""

from __future__ import annotations

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from restore_dit.data.crs import crs_from_text
from restore_dit.errors import UserError
from restore_dit.series import Georeference

_DEGREE = 111_320.0  # metres, of latitude


def read_crs(georeference: Georeference) -> CRS:
    """The reference system of a tile's coordinates.

    Raises:
        UserError: nobody knows it.
    """
    try:
        with rasterio.Env():  # without it GDAL prints its own line, too
            return crs_from_text(georeference.crs)
    except CRSError:
        shown = georeference.crs if len(georeference.crs) <= 40 else f"{georeference.crs[:40]}…"
        raise UserError(
            f"its coordinate reference system '{shown}' is unknown; ingest the tile again with one such as EPSG:32631"
        ) from None


def pixel_metres(georeference: Georeference, size: tuple[int, int]) -> NDArray[np.float64]:
    """[2, 2]: takes pixels (down, right) of a tile of (H, W) pixels to metres (east, north). Degrees of longitude are
    as long as they are in the middle of the tile.

    Raises:
        UserError: the tile's reference system is unknown.
    """
    crs = read_crs(georeference)
    a, b, _, d, e, f = georeference.transform
    if crs.is_geographic:
        degrees = float(np.rad2deg(crs.units_factor[1]))  # of one unit
        latitude = (d * size[1] / 2 + e * size[0] / 2 + f) * degrees
        metres = degrees * _DEGREE * np.array([np.cos(np.deg2rad(latitude)), 1.0])
    else:
        metres = np.full(2, crs.linear_units_factor[1])
    return np.array([[b, a], [e, d]]) * metres[:, None]

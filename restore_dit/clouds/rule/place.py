"""Where a tile lies: its latitude, the position of the sun at the overpass, and the conversion from metres to
pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform

from restore_dit.data.crs import coordinate_system, pixel_metres
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


_NODE = 10.5  # mean local solar time of the descending node, in hours
_INCLINATION = np.deg2rad(98.62)

Angles = NDArray[np.float64]


def sun_angles(dates: NDArray[np.datetime64], latitude: float) -> tuple[Angles, Angles]:
    """Zenith and azimuth (clockwise from north) of the sun in radians on each date [T], at a latitude in degrees at the
    satellite's overpass. The longitude does not matter, because the overpass is fixed in local solar time.

    Declination and equation of time after Spencer (1971), Fourier series representation of the position of the sun,
    Search 2 (5): 172. Accurate to 0.5°, since it neglects leap years.
    """
    days = (dates.astype("datetime64[D]") - dates.astype("datetime64[Y]")) / np.timedelta64(1, "D")
    year = 2 * np.pi * days / 365
    declination = (
        0.006918
        - 0.399912 * np.cos(year)
        + 0.070257 * np.sin(year)
        - 0.006758 * np.cos(2 * year)
        + 0.000907 * np.sin(2 * year)
        - 0.002697 * np.cos(3 * year)
        + 0.00148 * np.sin(3 * year)
    )
    equation_of_time = 0.000075 + 0.001868 * np.cos(year) - 0.032077 * np.sin(year)
    equation_of_time -= 0.014615 * np.cos(2 * year) + 0.040849 * np.sin(2 * year)
    hour_angle = np.deg2rad((overpass(latitude) - 12) * 15) + equation_of_time
    north = np.deg2rad(latitude)
    upward = np.sin(north) * np.sin(declination) + np.cos(north) * np.cos(declination) * np.cos(hour_angle)
    eastward = -np.cos(declination) * np.sin(hour_angle)
    northward = np.cos(north) * np.sin(declination) - np.sin(north) * np.cos(declination) * np.cos(hour_angle)
    return np.arccos(upward.clip(-1, 1)), np.arctan2(eastward, northward) % (2 * np.pi)


def overpass(latitude: float) -> float:
    """Mean local solar time, in hours, at which Sentinel-2 passes a latitude in degrees.

    The orbit is sun-synchronous, so the time only depends on right ascension: on the descending branch, points north of
    the equator are asin(tan latitude / |tan inclination|) east of the node, where the local time is later.
    """
    east_of_node = np.arcsin(np.clip(np.tan(np.deg2rad(latitude)) / abs(np.tan(_INCLINATION)), -1, 1))
    return float(_NODE + np.rad2deg(east_of_node) / 15)

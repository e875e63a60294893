"""Position of the sun at the overpass of Sentinel-2."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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

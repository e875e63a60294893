"""Where the sun stands at the satellite's pass, against an almanac and real acquisition times."""

from __future__ import annotations

import numpy as np
import pytest

from restore_dit.clouds.rule.place import overpass, sun_angles

DATES = np.arange("2018-01-01", "2022-01-01", 9, dtype="datetime64[D]")


def almanac(dates: np.ndarray, latitude: float) -> tuple[np.ndarray, np.ndarray]:
    """Zenith and azimuth in radians by the low-precision formulas of the Astronomical Almanac (page C5), good to
    0.01°, at the pass over longitude 0."""
    days = (dates - np.datetime64("2000-01-01")) / np.timedelta64(1, "D") - 0.5 + overpass(latitude) / 24
    mean_longitude = np.deg2rad(280.460 + 0.9856474 * days)
    anomaly = np.deg2rad(357.528 + 0.9856003 * days)
    longitude = mean_longitude + np.deg2rad(1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    obliquity = np.deg2rad(23.439 - 4e-7 * days)
    declination = np.arcsin(np.sin(obliquity) * np.sin(longitude))
    ascension = np.arctan2(np.cos(obliquity) * np.sin(longitude), np.cos(longitude))
    # Universal time is mean solar time at longitude 0; the mean sun's right ascension is the mean longitude.
    hour_angle = np.deg2rad((overpass(latitude) - 12) * 15) + mean_longitude - ascension
    place = np.deg2rad(latitude)
    toward = np.stack(
        [
            -np.cos(declination) * np.sin(hour_angle),
            np.cos(place) * np.sin(declination) - np.sin(place) * np.cos(declination) * np.cos(hour_angle),
            np.sin(place) * np.sin(declination) + np.cos(place) * np.cos(declination) * np.cos(hour_angle),
        ]
    )
    return np.arccos(toward[2]), np.arctan2(toward[0], toward[1])


@pytest.mark.parametrize("latitude", [0.0, 51.2, 67.0, -33.9])
def test_angles_are_those_of_the_almanac(latitude: float) -> None:
    zenith, azimuth = sun_angles(DATES, latitude)
    expected_zenith, expected_azimuth = almanac(DATES, latitude)
    np.testing.assert_allclose(zenith, expected_zenith, atol=np.deg2rad(0.6))
    apart = np.angle(np.exp(1j * (azimuth - expected_azimuth)))
    # Near the zenith, in the tropics, a small error turns the azimuth far.
    assert np.abs(apart * np.sin(zenith)).max() < np.deg2rad(0.6)


def test_known_positions() -> None:
    zenith, azimuth = (
        np.rad2deg(angle) for angle in sun_angles(np.array(["2019-06-21", "2019-12-21"], "datetime64[D]"), 51.18)
    )
    # The midday sun is 51.18° ∓ 23.44° from the zenith; the pass is within an hour of midday, before it.
    assert 27.74 < zenith[0] < 30.5
    assert 74.62 < zenith[1] < 76.5
    assert ((azimuth > 145) & (azimuth < 180)).all()
    _, southern = sun_angles(np.array(["2019-12-21"], "datetime64[D]"), -51.18)
    assert 0 < np.rad2deg(southern[0]) < 90  # in the north-east


def test_the_pass_is_later_in_the_north() -> None:
    assert overpass(0) == 10.5
    assert overpass(-20) < 10.5 < overpass(20) < overpass(60)
    # A real site at 51.18° N, 3.37° E is seen at 10:59:38 and at 10:50:22 UTC, from orbits west and east of it.
    seen = np.array([10 + 59 / 60 + 38 / 3600, 10 + 50 / 60 + 22 / 3600]) + 3.37 / 15
    assert abs(overpass(51.18) - seen.mean()) < 0.1

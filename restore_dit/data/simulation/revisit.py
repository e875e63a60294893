"""Overpass dates of the satellites, and the positions of sun and sensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restore_dit.config.simulation import SimulationConfig

OPTICAL_REVISIT = 5  # days, with both Sentinel-2 satellites on one orbit
RADAR_REVISIT = 6  # days, with both Sentinel-1 satellites on one track
_OVERCAST = 0.95
_OVERPASS = 10.75  # hours of mean local solar time
_SWATH_EDGE = np.deg2rad(10.3)  # view zenith angle; neighbouring orbits overlap at opposite edges

Dates = NDArray[np.datetime64]


@dataclass(frozen=True)
class Geometry:
    """Angles of one overpass in radians: the sun's zenith and azimuth (clockwise from north), and the sensor's view
    zenith `view`, negative if it looks from the west."""

    sun_zenith: float
    sun_azimuth: float
    view: float


@dataclass(frozen=True)
class OpticalPasses:
    """`dates` datetime64[D] [T] ascending; `orbit` int [T]: 0, or 1 for the second of two overlapping orbits."""

    dates: Dates
    orbit: NDArray[np.int64]


def period(config: SimulationConfig, *acquired: Dates) -> Dates:
    """Every day of the simulated period, as long as the settings say or as the given dates require."""
    first = np.datetime64(config.start, "D")
    last = first + config.days - 1
    for dates in acquired:
        first, last = min(first, dates.min()), max(last, dates.max())
    return np.arange(first, last + 1)


def kept_cover(
    config: SimulationConfig, cloud_cover: NDArray[np.float32], generator: np.random.Generator
) -> NDArray[np.float32]:
    """The cloud cover [D] of days known to have a frame in the archive: some overcast days take the cover of another
    day, as often as `optical_passes` would have dropped such a pass."""
    lost = (cloud_cover > _OVERCAST) & (generator.random(len(cloud_cover)) < config.overcast_dropped)
    if lost.all():
        return cloud_cover
    return np.where(lost, generator.choice(cloud_cover[~lost], len(cloud_cover)), cloud_cover)


def given_passes(dates: Dates) -> OpticalPasses:
    """Passes on known dates. Those at multiples of the revisit time from the first belong to its orbit."""
    orbit = ((dates - dates[0]) / np.timedelta64(1, "D")).astype(np.int64) % OPTICAL_REVISIT != 0
    return OpticalPasses(dates, orbit.astype(np.int64))


def optical_passes(
    config: SimulationConfig, cloud_cover: NDArray[np.float32], generator: np.random.Generator
) -> OpticalPasses:
    """The frames in the archive: passes minus those dropped, which is more likely under overcast skies. `cloud_cover`
    covers the days of `period`. At least one frame is left."""
    phase = generator.integers(min(OPTICAL_REVISIT, config.days))
    apart = generator.integers(2, 4)  # days between the passes of neighbouring orbits
    day = np.arange(config.days)
    orbit = np.where((day - phase) % OPTICAL_REVISIT == 0, 0, -1)
    if config.orbit_overlap:
        orbit[(day - phase) % OPTICAL_REVISIT == apart] = 1
    lost = generator.random(config.days)
    chance = config.dropped + (1 - config.dropped) * config.overcast_dropped * (cloud_cover > _OVERCAST)
    kept = (orbit >= 0) & (lost >= chance)
    if not kept.any():
        kept = day == phase
    return OpticalPasses(period(config)[kept], orbit[kept])


def optical_geometry(config: SimulationConfig, passes: OpticalPasses, generator: np.random.Generator) -> list[Geometry]:
    """Positions of sun and sensor at each pass. Where two orbits overlap, one sees the tile from the east and the other
    from the west."""
    place = generator.uniform(-1, 1)
    if passes.orbit.any():
        place = np.copysign(0.5 + 0.5 * abs(place), place)
    opposite = place - np.copysign(1.4, place)
    zenith, azimuth = sun_angles(passes.dates, config.latitude)
    view = np.where(passes.orbit == 0, place, opposite) * _SWATH_EDGE
    return [Geometry(*map(float, angles)) for angles in zip(zenith, azimuth, view, strict=True)]


def radar_passes(config: SimulationConfig, generator: np.random.Generator) -> Dates:
    """The acquisition dates of one track, at least one."""
    phase = int(generator.integers(min(RADAR_REVISIT, config.days)))
    dates = period(config)[phase::RADAR_REVISIT]
    kept = generator.random(len(dates)) >= config.radar_dropped
    kept[0] |= not kept.any()
    return dates[kept]


def sun_angles(dates: Dates, latitude: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Zenith and azimuth (clockwise from north) of the sun in radians, at Sentinel-2's overpass at about 10:45 local
    solar time. Declination after Cooper (1969), The absorption of radiation in solar stills."""
    day_of_year = (dates - dates.astype("datetime64[Y]").astype("datetime64[D]")) / np.timedelta64(1, "D") + 1
    declination = np.deg2rad(23.45) * np.sin(2 * np.pi * (284 + day_of_year) / 365)
    hour_angle, north = np.deg2rad((_OVERPASS - 12) * 15), np.deg2rad(latitude)
    cosine = np.sin(north) * np.sin(declination) + np.cos(north) * np.cos(declination) * np.cos(hour_angle)
    zenith = np.arccos(cosine.clip(0.05, 1))
    east = -np.cos(declination) * np.sin(hour_angle)
    northward = np.cos(north) * np.sin(declination) - np.sin(north) * np.cos(declination) * np.cos(hour_angle)
    return zenith, np.arctan2(east, northward) % (2 * np.pi)

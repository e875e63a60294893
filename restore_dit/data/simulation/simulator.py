"""Assembles a simulated tile: land, weather, the two sensors, clouds; for tiles of many places and years, by settings
that each draws for itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation.clouds import detect, draw_sky
from restore_dit.data.simulation.covers import COVERS
from restore_dit.data.simulation.optical_sensor import draw_offsets, instrument_noise, sampling
from restore_dit.data.simulation.radar import Ground, draw_ground, draw_track, render_backscatter
from restore_dit.data.simulation.reflectance import render_reflectance
from restore_dit.data.simulation.revisit import (
    Dates,
    OpticalPasses,
    given_passes,
    kept_cover,
    optical_geometry,
    optical_passes,
    period,
    radar_passes,
)
from restore_dit.data.simulation.surface import LARGEST_LEAD, Surface, draw_surface
from restore_dit.data.simulation.weather import Weather, draw_weather
from restore_dit.data.store.masks import TRUTH
from restore_dit.series import (
    CLEAR,
    CLOUD_NO_DATA,
    DECIBEL_SCALE,
    NO_DATA,
    REFLECTANCE_SCALE,
    S1_BANDS,
    S2_BANDS,
    Acquisitions,
    Georeference,
    TileSeries,
)

_EASTING, _PIXEL = 500_000.0, 10.0  # metres, on the central meridian of UTM zone 31N
_METRES_A_DEGREE = 111_100.0
_TILES_A_ROW = 64
_FOLDS = 5
# Each part of a tile has its own random stream, so that one may change without affecting the others.
_LAND, _WEATHER, _PASSES, _VIEW, _OFFSETS, _NOISE, _CLOUDS, _MASKS, _SWATH, _GROUND, _RADAR, _, _VARIETY = range(13)
_SNOW_SEEN = 0.2  # snow cover above which the masks mark clear land as snow (no data): neither cloud nor a target
_BATCH = 2**19  # pixels rendered at once, over all frames, so that arrays fit into the processor's cache


def simulate_tiles(
    config: SimulationConfig, seed: int, indices: Iterable[int], *, clouds: bool = True
) -> Iterator[TileSeries]:
    """Yields `simulate_tile` for each index, one at a time."""
    for index in indices:
        yield simulate_tile(config, seed, index, clouds=clouds)


def simulate_tile(
    config: SimulationConfig,
    seed: int,
    index: int,
    *,
    clouds: bool = True,
    optical_dates: Dates | None = None,
    radar_dates: dict[str, Dates] | None = None,
) -> TileSeries:
    """Tile `index` (from 0) of the simulated area `seed`, independent of which other tiles are made.

    With `clouds=False`, the same land on the same dates without clouds, shadows or swath edges: the truth below them.
    Truly clear pixels have the same values in both; the radar is the same. The series' cloud masks are those of an
    imperfect detector, or the true ones with `mask_errors=0`; the images do not depend on it.

    `optical_dates` and `radar_dates` (by track, all of `config.radar_tracks`), datetime64[D] strictly increasing,
    replace the simulated revisit dates.

    With `config.varied`, a tile draws its own settings and includes its true masks in `other_clouds`.
    """
    brings_truth = config.varied and clouds
    if config.varied:
        config = varied(config, _generator(seed, index, _VARIETY))
    days = _days(config, optical_dates, radar_dates)
    surface = draw_surface(config, days, _generator(seed, index, _LAND))
    weather = draw_weather(days, config, _generator(seed, index, _WEATHER))
    if optical_dates is None:
        first = int((np.datetime64(config.start, "D") - days[0]).astype(np.int64))
        cover = weather.cloud_cover[first : first + config.days]
        passes = optical_passes(config, cover, _generator(seed, index, _PASSES))
    else:
        passes = given_passes(optical_dates)
        cover = kept_cover(config, weather.cloud_cover, _generator(seed, index, _PASSES))
        weather = replace(weather, cloud_cover=cover)
    optical, classes, truth = _optical(config, seed, index, days[0], surface, weather, passes, clouds)
    ground = draw_ground(surface, _generator(seed, index, _GROUND))
    radar: dict[str, Acquisitions] = {}
    for stream, track in enumerate(("S1A", "S1D")):
        if track in config.radar_tracks:
            generator = _generator(seed, index, _RADAR + stream)
            dates = radar_passes(config, generator) if radar_dates is None else radar_dates[track]
            radar[track] = _radar(config, generator, days[0], surface, ground, weather, dates)
    return TileSeries(
        tile_id=tile_name(seed, index),
        optical=optical,
        clouds=classes,
        radar=radar,
        georeference=_georeference(config, index),
        other_clouds={TRUTH: truth} if brings_truth else {},
        properties={"source": "simulation", "fold": index % _FOLDS + 1},
    )


@dataclass(frozen=True)
class LandCover:
    """Land cover of a tile: `classes` uint8 [H, W] are indices into `names`, `parcels` int32 [H, W] numbers each
    pixel's parcel from 0."""

    classes: NDArray[np.uint8]
    parcels: NDArray[np.int32]
    names: tuple[str, ...]


def simulate_landcover(
    config: SimulationConfig,
    seed: int,
    index: int,
    *,
    optical_dates: Dates | None = None,
    radar_dates: dict[str, Dates] | None = None,
) -> LandCover:
    """Crops and land covers of the tile that `simulate_tile` makes from the same arguments. The crop of a field is that
    of mid-June in the period's last summer, or of the last day if the period includes no mid-June."""
    if config.varied:
        config = varied(config, _generator(seed, index, _VARIETY))
    days = _days(config, optical_dates, radar_dates)
    surface = draw_surface(config, days, _generator(seed, index, _LAND))
    season = days + np.timedelta64(config.season_lead, "D")  # the plants' own calendar
    june = np.flatnonzero((season - season.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64) == 165)
    covers = surface.curves.covers[:, (june[-1] if june.size else len(days) - 1) + LARGEST_LEAD]
    parcels = surface.landscape.parcels
    return LandCover(covers[parcels], parcels, tuple(cover.name for cover in COVERS))


def _days(config: SimulationConfig, optical_dates: Dates | None, radar_dates: dict[str, Dates] | None) -> Dates:
    """The days that a tile covers."""
    given = [] if optical_dates is None else [optical_dates]
    return period(config, *given, *(radar_dates or {}).values())


def tile_name(seed: int, index: int) -> str:
    """The id of a simulated tile."""
    return f"sim-{seed}-{index:06d}"


def _generator(seed: int, index: int, stream: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence((seed, index), spawn_key=(stream,)))


def _batches(frames: int, config: SimulationConfig) -> Iterator[slice]:
    """The frames in batches of about `_BATCH` pixels."""
    size = max(_BATCH // (config.height * config.width), 1)
    for first in range(0, frames, size):
        yield slice(first, first + size)


def _integers(values: NDArray[np.float32]) -> NDArray[np.int16]:
    """Values rounded to int16, avoiding `NO_DATA`."""
    return np.rint(values).clip(NO_DATA + 1, 32767).astype(np.int16)


def _optical(
    config: SimulationConfig,
    seed: int,
    index: int,
    first_day: np.datetime64,
    surface: Surface,
    weather: Weather,
    passes: OpticalPasses,
    clouds: bool,
) -> tuple[Acquisitions, NDArray[np.uint8], NDArray[np.uint8]]:
    """The optical series and its cloud classes [T, H, W], detected and true."""
    shape = (config.height, config.width)
    day = (passes.dates - first_day).astype(np.int64)
    view_generator = _generator(seed, index, _VIEW)
    geometry = optical_geometry(config, passes, view_generator)
    shifts = config.registration_error * view_generator.standard_normal((len(day), 2))
    air = draw_offsets(geometry, shape, config.frame_offsets, _generator(seed, index, _OFFSETS))
    noise = _generator(seed, index, _NOISE)
    sky_generator, mask_generator = _generator(seed, index, _CLOUDS), _generator(seed, index, _MASKS)
    stored = np.empty((len(day), len(S2_BANDS), *shape), np.int16)
    classes, truth = np.full((2, len(day), *shape), CLEAR, np.uint8)
    state = surface.state(day)
    for frame, today in enumerate(day):
        moisture, snow = float(weather.moisture[today]), float(weather.snow[today])
        scene = render_reflectance(surface, state, frame, int(today), moisture, snow, geometry[frame])
        # Noise before resampling and atmosphere, as in the instrument: products smooth it with the ground.
        scene += instrument_noise(scene, noise)
        values = air.over(frame, sampling(shape, (shifts[frame, 0], shifts[frame, 1])).apply(scene))
        if clouds:
            cover = float(weather.cloud_cover[today])
            sky = draw_sky(shape, cover, weather.cloudiness, geometry[frame], sky_generator)
            if sky is not None:
                values = sky.over(values)
                classes[frame] = detect(sky, config.mask_errors, mask_generator)
                truth[frame] = sky.classes()
        if clouds and snow > _SNOW_SEEN:
            for masks in (classes, truth):
                masks[frame][masks[frame] == CLEAR] = CLOUD_NO_DATA
        # Corrected products never contain zero or negative reflectance.
        stored[frame] = np.rint(values * REFLECTANCE_SCALE).clip(1, 32767)
    if clouds:
        outside = _outside_swath(config, len(day), _generator(seed, index, _SWATH))
        np.copyto(stored, NO_DATA, where=outside[:, None])
        classes[outside] = truth[outside] = CLOUD_NO_DATA
    return Acquisitions(stored, passes.dates, S2_BANDS), classes, truth


def _radar(
    config: SimulationConfig,
    generator: np.random.Generator,
    first_day: np.datetime64,
    surface: Surface,
    ground: Ground,
    weather: Weather,
    dates: Dates,
) -> Acquisitions:
    """The series of one radar track."""
    day = (dates - first_day).astype(np.int64)
    variation = draw_track(surface, weather.frozen[day], generator)
    stored = np.empty((len(day), len(S1_BANDS), config.height, config.width), np.int16)
    for part in _batches(len(day), config):
        state, moisture = surface.state(day[part]), weather.moisture[day[part]]
        decibel = render_backscatter(
            surface, ground, state, moisture, variation.select(part), config.speckle_looks, generator
        )
        stored[part] = _integers(decibel * DECIBEL_SCALE)
    return Acquisitions(stored, dates, S1_BANDS)


def _outside_swath(config: SimulationConfig, frames: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Pixels [T, H, W] outside the swath, whose edge runs along the orbit, always in the same direction."""
    cut = generator.random(frames) < config.partial_swath
    rows, columns = np.indices((config.height, config.width), np.float32)
    tilt = np.deg2rad(12.0)  # angle of Sentinel-2's ground track to north at this latitude
    across = columns * np.cos(tilt) + rows * np.sin(tilt)
    edge = generator.uniform(across.min(), across.max(), frames)
    return cut[:, None, None] & (across[None] > edge[:, None, None])


def _georeference(config: SimulationConfig, index: int) -> Georeference:
    """Tiles are laid out in rows, the first at the upper left."""
    row, column = divmod(index, _TILES_A_ROW)
    northing = round(config.latitude * _METRES_A_DEGREE, -4)
    left, top = _EASTING + column * config.width * _PIXEL, northing - row * config.height * _PIXEL
    return Georeference("EPSG:32631", (_PIXEL, 0.0, left, 0.0, -_PIXEL, top))


_SHORTEST = 0.35
"""Minimum share of the configured period that a tile covers."""

_COLDER = 0.45
"""Degrees Celsius by which January is colder per degree of latitude north, relative to 7 °C at 44° N."""

_LEAD = 2.5
"""Days by which the season is earlier per degree of latitude south."""


def varied(config: SimulationConfig, generator: np.random.Generator) -> SimulationConfig:
    """The settings of one tile. Size, tracks and sensors are as configured; everything else is drawn from the range
    found between the Mediterranean and southern Scandinavia: even and mottled ground, large and small fields, archives
    that kept all passes or dropped most, and cloud masks with more or fewer errors.

    Per-date offsets range from almost none to the configured strength, with small ones frequent: a network trained on
    large offsets only mistakes real greening for haze. Misregistration ranges from that of aligned products to that of
    the first years.
    """
    latitude = float(generator.uniform(36, 61))
    january = 7 - _COLDER * (latitude - 44) + 1.5 * float(generator.standard_normal())
    drawn = {
        "start": config.start + timedelta(days=int(generator.integers(365))),
        "days": max(1, round(config.days * float(generator.uniform(_SHORTEST, 1)))),
        "field_hectares": float(2.0 * np.exp(0.6 * generator.standard_normal())),
        "latitude": latitude,
        "january": float(np.clip(january, -7, 11)),
        "season_lead": round(_LEAD * (48 - latitude) + 7 * float(generator.standard_normal())),
        "summer_drought": float(np.clip((46 - latitude) / 6 + 0.25 * generator.standard_normal(), 0, 1)),
        "relief": float(generator.choice([0.0, 0.0, 0.05, 0.12])),
        "woods": float(generator.beta(0.7, 2.5)),
        "vigour": float(generator.uniform(0.35, 1.05)),
        "mottle": float(0.7 * generator.random() ** 1.5),
        "cloudiness": float(generator.uniform(0.15, 0.6)),
        "cloudiness_spread": 0.0,
        "mask_errors": float(generator.uniform(0.3, 1)) * config.mask_errors,
        "registration_error": float(np.exp(generator.uniform(np.log(0.1), np.log(0.8)))),
        "orbit_overlap": bool(generator.random() < 0.5),
        "dropped": float(generator.choice([0.05, 0.15, 0.3])),
        "overcast_dropped": float(generator.choice([0.0, 0.5, 0.9])),
        "partial_swath": 0.03,
        "frame_offsets": float(0.05 + 0.95 * generator.random() ** 1.5) * config.frame_offsets,
        "varied": False,
    }
    return config.model_copy(update=drawn)

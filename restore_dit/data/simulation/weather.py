"""Daily weather over a tile: cloud cover that comes in spells, rain, soil moisture, frost and snow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation.random_fields import autoregressive


@dataclass(frozen=True)
class Weather:
    """Daily values, [D] each: `cloud_cover`, the share of the sky at the time of the overpass; `moisture` of the
    topsoil (0 dry, 1 saturated); `snow`, the share of the ground covered by snow; `frozen`, whether the ground is.
    `cloudiness` is the tile's mean cloud cover."""

    cloud_cover: NDArray[np.float32]
    moisture: NDArray[np.float32]
    snow: NDArray[np.float32]
    frozen: NDArray[np.bool_]
    cloudiness: float


def draw_weather(days: NDArray[np.datetime64], config: SimulationConfig, generator: np.random.Generator) -> Weather:
    """Weather of consecutive `days` in the northern hemisphere, cloudier in winter. Cloudiness varies between tiles by
    `cloudiness_spread` around a mean of about `cloudiness`."""
    count = len(days)
    spread = config.cloudiness_spread * generator.standard_normal()
    cloudiness = float(expit(logit(config.cloudiness) + spread)) if 0 < config.cloudiness < 1 else config.cloudiness
    season = np.cos(2 * np.pi * (_day_of_year(days) - 15) / 365.25)  # 1 in mid-January, -1 in mid-July
    # Fronts last a week, showers a day or two: the weights give both together the variance of about 1.
    spells = 0.75 * _autoregressive(count, 7.0, generator) + 0.66 * _autoregressive(count, 1.5, generator)
    rank = ndtr((spells + 0.2 * season) / np.sqrt(1 + 0.2**2 / 2))
    # Partial cover is less common than clear or overcast skies: its share is 0.9 times that of the rarer of the two.
    between = max(min(cloudiness, 1 - cloudiness), 1e-6) * 0.9
    cover = ((rank - (1 - cloudiness)) / between + 0.5).clip(0, 1)
    rain = (generator.random(count) < np.where(cover > 0.7, 0.55, 0.15 * cover)) * generator.gamma(1.2, 0.28, count)
    # July is 16 °C warmer than January.
    temperature = config.january + 8 - 8.0 * season + 3.0 * _autoregressive(count, 4.0, generator)
    temperature -= 1.5 * season * (cover < 0.3)
    memory = np.exp(-1 / np.where(temperature < 8, 12.0, 6.0))  # days until the topsoil has dried to 1/e
    moisture, snow = np.empty((2, count), np.float32)
    level, depth = 0.5, 0.0
    # Day by day, since whether rain falls as snow depends on the day, and melting on what has fallen.
    for day in range(count):
        cold = temperature[day] < 0.0
        depth = depth + rain[day] if cold else max(depth - 0.15 * temperature[day], 0.0)
        level = min(level * memory[day] + (0.0 if cold else rain[day]), 1.0)
        moisture[day], snow[day] = level, depth
    covered = 1 - np.exp(-snow / np.float32(0.15))
    return Weather(cover.astype(np.float32), moisture, covered, temperature < -0.5, cloudiness)


def _day_of_year(days: NDArray[np.datetime64]) -> NDArray[np.float64]:
    return (days - days.astype("datetime64[Y]").astype("datetime64[D]")) / np.timedelta64(1, "D") + 1


def _autoregressive(count: int, memory_days: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """A stationary AR(1) process with variance 1 whose correlation falls to 1/e within `memory_days`."""
    correlation = np.exp(-1 / memory_days)
    steps = generator.standard_normal(count) * np.sqrt(1 - correlation**2)
    start = generator.standard_normal()
    return autoregressive(steps, correlation, start)

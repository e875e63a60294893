"""The days' weather over a tile: clouds that come in spells, rain, soil moisture and frost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import ndtr


@dataclass(frozen=True)
class Weather:
    """Daily, [D] each: `cloud_cover` the share of the sky at the hour of the overpass, `moisture` of the top soil
    (0 dry, 1 saturated), `frozen` whether the ground is."""

    cloud_cover: NDArray[np.float32]
    moisture: NDArray[np.float32]
    frozen: NDArray[np.bool_]


def draw_weather(days: NDArray[np.datetime64], cloudiness: float, generator: np.random.Generator) -> Weather:
    """Weather of consecutive `days` on the northern hemisphere, cloudier in winter, with mean cover `cloudiness`."""
    count = len(days)
    season = np.cos(2 * np.pi * (_day_of_year(days) - 15) / 365.25)  # 1 in mid-January, -1 in mid-July
    spells = 0.75 * _autoregressive(count, 7.0, generator) + 0.66 * _autoregressive(count, 1.5, generator)
    rank = ndtr((spells + 0.35 * season) / np.sqrt(1 + 0.35**2 / 2))
    # Few skies are half covered: the share of days in between is half of the rarer of clear and overcast.
    between = max(min(cloudiness, 1 - cloudiness), 1e-6) * 0.5
    cover = ((rank - (1 - cloudiness)) / between + 0.5).clip(0, 1)
    rain = (generator.random(count) < np.where(cover > 0.7, 0.5, 0.08 * cover)) * generator.gamma(1.2, 0.28, count)
    temperature = 10.5 - 8.0 * season + 3.0 * _autoregressive(count, 4.0, generator) - 1.5 * season * (cover < 0.3)
    memory = np.exp(-1 / np.where(temperature < 8, 12.0, 5.0))  # days until the top soil has dried to 1/e
    moisture = np.empty(count, np.float32)
    level = 0.5
    for day in range(count):
        level = min(level * memory[day] + rain[day], 1.0)
        moisture[day] = level
    return Weather(cover.astype(np.float32), moisture, temperature < -0.5)


def _day_of_year(days: NDArray[np.datetime64]) -> NDArray[np.float64]:
    return (days - days.astype("datetime64[Y]").astype("datetime64[D]")) / np.timedelta64(1, "D") + 1


def _autoregressive(count: int, memory_days: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """A stationary AR(1) process of variance 1 whose correlation falls to 1/e in `memory_days`."""
    correlation = np.exp(-1 / memory_days)
    steps = generator.standard_normal(count) * np.sqrt(1 - correlation**2)
    start = generator.standard_normal()
    return lfilter([1.0], [1.0, -correlation], steps, zi=[correlation * start])[0]

"""Settings that each tile draws for itself, for tiles of many places and years."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from restore_dit.config.simulation import SimulationConfig

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

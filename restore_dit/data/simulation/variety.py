"""Tiles of many places and years: what each draws for itself."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from restore_dit.config.simulation import SimulationConfig

_SHORTEST = 0.35
"""Least share of the configured period that a tile has."""

_COLDER = 0.45
"""Degrees by which January is colder for each degree of latitude, away from 44° N and 7 °C."""

_LEAD = 2.5
"""Days by which plants are earlier for each degree of latitude further south."""


def varied(config: SimulationConfig, generator: np.random.Generator) -> SimulationConfig:
    """The settings of one tile: size, tracks and sensors as configured, everything else drawn from what is found
    between the Mediterranean and southern Scandinavia, on even and mottled ground, in large and small fields, in
    archives that kept all passes and such that dropped most, behind cloud masks that err more or less.

    Offsets of whole dates reach from nearly none to the configured, and small ones are frequent: a network that learns
    of large ones alone takes real greening for haze. Misregistration reaches from that of aligned products to that of
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

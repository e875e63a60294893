"""The catalogue of crops and land covers: growing season, leaf properties and C-band backscatter.

Leaf properties and angles started from typical values for such plants and were fitted so that the ten bands match a
real site at each greenness (see docs/simulator.md); water content is rather high because it also represents stems and
ears. Backscatter is fitted in the same way. Dates are for farmland between Brittany and Flanders, in days of the
harvest year; negative days are in the preceding autumn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Growth:
    """Double-logistic leaf area index, in m²/m² and days of the harvest year.

    Rises around `green_up` and falls around `senescence` (inflection days, with widths in days), and ends at `harvest`.
    `base` is present all year, `autumn` between `emergence` and `green_up`. The share `standing` of the withering
    leaves remains, brown, until the harvest.
    """

    green_up: float = 0.0
    green_up_width: float = 10.0
    senescence: float = 400.0
    senescence_width: float = 8.0
    harvest: float = 400.0
    peak: float = 0.0
    base: float = 0.0
    emergence: float = 0.0
    autumn: float = 0.0
    spread: float = 9.0
    standing: float = 0.6


@dataclass(frozen=True)
class Leaves:
    """`chlorophyll` in µg/cm², equivalent `water` thickness and `dry_matter` in g/cm², mean leaf `angle` in degrees
    from the horizontal; `gaps` is the share of sunlight lost in the shadows and gaps of crowns at a solar zenith of
    60°."""

    chlorophyll: float = 40.0
    water: float = 0.012
    dry_matter: float = 0.005
    angle: float = 55.0
    gaps: float = 0.06


@dataclass(frozen=True)
class Cover:
    """A crop or land cover. `volume` is the backscatter in dB of an infinitely dense canopy in VV and VH, and
    `attenuation` the attenuation per unit of leaf area: the parameters A and B of the water-cloud model."""

    name: str
    leaves: Leaves = Leaves()
    volume: tuple[float, float] = (-13.0, -18.6)
    attenuation: float = 0.1
    growth: Growth = Growth()
    winter_crop: bool = False
    share: float = 0.0


_CEREAL = Leaves(43, 0.024, 0.0035, 60)
_BROAD = Leaves(43, 0.030, 0.0045, 42)
_MAIZE = Leaves(43, 0.024, 0.0040, 55)
_GRASS = Leaves(37, 0.021, 0.0045, 58)

CROPS = (
    Cover(
        "winter wheat",
        _CEREAL,
        (-16.0, -20.6),
        0.15,
        Growth(84, 11, 172, 6, 203, 4.6, emergence=-52, autumn=1.2),
        True,
        0.28,
    ),
    Cover(
        "winter barley",
        Leaves(40, 0.022, 0.0040, 58),
        (-15.0, -19.6),
        0.14,
        Growth(76, 10, 157, 6, 186, 4.0, emergence=-66, autumn=1.6),
        True,
        0.10,
    ),
    Cover(
        "winter rapeseed",
        _BROAD,
        (-9.5, -14.1),
        0.14,
        Growth(72, 9, 168, 8, 197, 4.0, emergence=-108, autumn=2.0),
        True,
        0.08,
    ),
    Cover("maize", _MAIZE, (-9.0, -14.1), 0.17, Growth(167, 7, 256, 9, 272, 3.8, spread=13), False, 0.22),
    Cover(
        "sugar beet",
        Leaves(43, 0.034, 0.0040, 40),
        (-8.5, -13.1),
        0.16,
        Growth(159, 8, 330, 20, 292, 4.0, spread=13),
        False,
        0.11,
    ),
    Cover(
        "potato",
        Leaves(37, 0.027, 0.0040, 40),
        (-8.0, -12.6),
        0.18,
        Growth(160, 6, 236, 7, 262, 3.8, spread=12, standing=0.2),
        False,
        0.11,
    ),
    Cover(
        "spring barley",
        Leaves(39, 0.022, 0.0040, 58),
        (-13.5, -19.1),
        0.11,
        Growth(124, 8, 186, 6, 210, 3.4),
        False,
        0.10,
    ),
)

CATCH_CROP = Cover("catch crop", Leaves(40, 0.025, 0.0040, 45), (-10.5, -15.6), 0.13, Growth(peak=2.2))
GRASSLAND = Cover("grassland", _GRASS, (-12.5, -18.1), 0.09, Growth(92, 13, 318, 20, peak=3.3, base=1.3))
DECIDUOUS = Cover(
    "deciduous forest",
    Leaves(49, 0.018, 0.0070, 45, gaps=0.32),
    (-9.5, -14.6),
    0.2,
    Growth(113, 6, 297, 9, peak=5.0, base=0.2, spread=4),
)
CONIFER = Cover(
    "coniferous forest",
    Leaves(55, 0.025, 0.0100, 50, gaps=0.55),
    (-9.8, -14.9),
    0.2,
    Growth(140, 20, 290, 25, peak=4.4, base=3.6),
)
WATER = Cover("water")
BUILT_UP = Cover("built-up", _GRASS, growth=Growth(113, 8, 297, 10, peak=1.1, base=0.3))
ROAD = Cover("road", _GRASS, growth=Growth(100, 12, 300, 20, peak=0.5, base=0.25))

COVERS = (*CROPS, CATCH_CROP, GRASSLAND, DECIDUOUS, CONIFER, WATER, BUILT_UP, ROAD)
COVER_NUMBER = {cover.name: number for number, cover in enumerate(COVERS)}

CROP_SHARES = np.array([crop.share for crop in CROPS])
"""Probability that a field carries each of `CROPS`; sums to 1."""

#                        B02    B03    B04    B05   B06   B07   B08   B8A   B11   B12
SOIL = np.array([0.105, 0.150, 0.205, 0.235, 0.265, 0.29, 0.305, 0.33, 0.405, 0.355], np.float32)
STRAW = np.array([0.100, 0.145, 0.205, 0.240, 0.28, 0.30, 0.33, 0.35, 0.39, 0.31], np.float32)
WATER_BODY = np.array([0.035, 0.042, 0.030, 0.027, 0.022, 0.020, 0.018, 0.016, 0.011, 0.009], np.float32)
ROOFS = np.array([0.115, 0.130, 0.150, 0.170, 0.19, 0.20, 0.21, 0.22, 0.24, 0.22], np.float32)
TARMAC = np.array([0.100, 0.115, 0.125, 0.140, 0.15, 0.16, 0.17, 0.18, 0.20, 0.18], np.float32)
RAPESEED_FLOWERS = np.array([0.040, 0.170, 0.165, 0.220, 0.38, 0.46, 0.49, 0.50, 0.21, 0.10], np.float32)
SNOW = np.array([0.86, 0.87, 0.87, 0.86, 0.84, 0.82, 0.80, 0.79, 0.10, 0.07], np.float32)
"""Reflectances of surfaces without canopy; soil and straw are fitted to the bare fields of a real site, the others are
typical values."""

"""The catalogue of crops and land covers: when they grow, how they look in ten bands and to a C-band radar.

Reflectances are typical values of Sentinel-2 surface reflectance over north-west European farmland, chosen by us and
compared with a real site (see the tests); days are days of the harvest year, negative ones in the autumn before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Growth:
    """The double logistic of a leaf area index: rises around `green_up`, falls around `senescence` (inflection days,
    widths in days), ends at `harvest`; `base` is there all year, `autumn` between `emergence` and `green_up`."""

    green_up: float = 0.0
    green_up_width: float = 10.0
    senescence: float = 400.0
    senescence_width: float = 8.0
    harvest: float = 400.0
    peak: float = 0.0
    base: float = 0.0
    emergence: float = 0.0
    autumn: float = 0.0
    spread: float = 7.0


@dataclass(frozen=True)
class Cover:
    """A crop or land cover. `canopy` is the reflectance of an infinitely dense canopy in the ten bands, `volume` its
    backscatter in VV and VH (dB), `attenuation` how fast the canopy hides the ground from the radar per unit of leaf
    area."""

    name: str
    canopy: tuple[float, ...]
    volume: tuple[float, float] = (-13.0, -19.0)
    attenuation: float = 0.1
    growth: Growth = Growth()
    winter_crop: bool = False
    share: float = 0.0


# Bands:    B02    B03    B04    B05    B06   B07   B08   B8A   B11    B12
_CEREAL = (0.026, 0.050, 0.027, 0.082, 0.30, 0.43, 0.46, 0.48, 0.180, 0.085)
_BROAD = (0.030, 0.068, 0.032, 0.105, 0.40, 0.56, 0.60, 0.61, 0.230, 0.105)
_MAIZE = (0.030, 0.060, 0.032, 0.095, 0.33, 0.45, 0.48, 0.50, 0.210, 0.095)
_GRASS = (0.034, 0.070, 0.040, 0.110, 0.33, 0.44, 0.47, 0.49, 0.220, 0.110)
_LEAFY = (0.020, 0.040, 0.020, 0.070, 0.28, 0.39, 0.42, 0.44, 0.165, 0.070)
_NEEDLE = (0.018, 0.030, 0.018, 0.045, 0.14, 0.18, 0.20, 0.21, 0.095, 0.045)

CROPS = (
    Cover(
        "winter wheat",
        _CEREAL,
        (-16.0, -21.0),
        0.15,
        Growth(84, 11, 172, 6, 203, 5.2, emergence=-52, autumn=1.2),
        True,
        0.28,
    ),
    Cover(
        "winter barley",
        _CEREAL,
        (-15.0, -20.0),
        0.14,
        Growth(76, 10, 157, 6, 186, 4.6, emergence=-66, autumn=1.6),
        True,
        0.10,
    ),
    Cover(
        "winter rapeseed",
        _BROAD,
        (-9.5, -14.5),
        0.14,
        Growth(72, 9, 168, 8, 197, 4.5, emergence=-108, autumn=2.0),
        True,
        0.08,
    ),
    Cover("maize", _MAIZE, (-9.0, -14.5), 0.17, Growth(167, 7, 256, 9, 272, 4.6, spread=10), False, 0.22),
    Cover("sugar beet", _BROAD, (-8.5, -13.5), 0.16, Growth(159, 8, 330, 20, 292, 4.8, spread=12), False, 0.11),
    Cover("potato", _BROAD, (-8.0, -13.0), 0.18, Growth(160, 6, 236, 7, 262, 4.6, spread=10), False, 0.11),
    Cover("spring barley", _CEREAL, (-13.5, -19.5), 0.11, Growth(124, 8, 186, 6, 210, 4.0), False, 0.10),
)

CATCH_CROP = Cover("catch crop", _BROAD, (-10.5, -16.0), 0.13, Growth(peak=2.6))
GRASSLAND = Cover("grassland", _GRASS, (-12.5, -18.5), 0.09, Growth(92, 13, 318, 20, peak=4.0, base=1.3))
DECIDUOUS = Cover("deciduous forest", _LEAFY, (-9.5, -15.0), 0.2, Growth(113, 6, 297, 9, peak=5.2, base=0.9, spread=4))
CONIFER = Cover("coniferous forest", _NEEDLE, (-9.8, -15.3), 0.2, Growth(140, 20, 290, 25, peak=4.4, base=3.6))
WATER = Cover("water", _GRASS)
BUILT_UP = Cover("built-up", _LEAFY, growth=Growth(113, 8, 297, 10, peak=0.9, base=0.25))
ROAD = Cover("road", _GRASS, growth=Growth(100, 12, 300, 20, peak=0.4, base=0.2))

COVERS = (*CROPS, CATCH_CROP, GRASSLAND, DECIDUOUS, CONIFER, WATER, BUILT_UP, ROAD)
COVER_NUMBER = {cover.name: number for number, cover in enumerate(COVERS)}

CROP_SHARES = np.array([crop.share for crop in CROPS])
"""How often a field carries each of `CROPS`; adds up to 1."""

CANOPY_REFLECTANCE = np.array([cover.canopy for cover in COVERS], np.float32)
"""[cover, band]: reflectance of a dense green canopy."""

#                        B02    B03    B04    B05   B06   B07   B08   B8A   B11   B12
SOIL = np.array([0.078, 0.105, 0.138, 0.165, 0.19, 0.21, 0.23, 0.25, 0.34, 0.29], np.float32)
STRAW = np.array([0.090, 0.130, 0.185, 0.225, 0.26, 0.28, 0.31, 0.33, 0.39, 0.28], np.float32)
WATER_BODY = np.array([0.035, 0.042, 0.030, 0.027, 0.022, 0.020, 0.018, 0.016, 0.011, 0.009], np.float32)
ROOFS = np.array([0.115, 0.130, 0.150, 0.170, 0.19, 0.20, 0.21, 0.22, 0.24, 0.22], np.float32)
TARMAC = np.array([0.100, 0.115, 0.125, 0.140, 0.15, 0.16, 0.17, 0.18, 0.20, 0.18], np.float32)
RAPESEED_FLOWERS = np.array([0.040, 0.170, 0.165, 0.220, 0.38, 0.46, 0.49, 0.50, 0.21, 0.10], np.float32)

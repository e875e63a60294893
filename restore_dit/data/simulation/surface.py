"""The ground truth that both sensors look at: the state of each pixel on any days."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation.covers import COVER_NUMBER, ROOFS, SOIL, TARMAC, WATER_BODY
from restore_dit.data.simulation.landscape import Landscape, draw_landscape
from restore_dit.data.simulation.phenology import Curves, draw_curves
from restore_dit.data.simulation.random_fields import texture

LARGEST_LEAD = 12
"""Days by which a part of a field may be ahead of its parcel's curve, or behind."""

Field = NDArray[np.float32]


@dataclass(frozen=True)
class PixelState:
    """State on T days of N pixels, [T, N] each: see `Curves`."""

    leaf_area: Field
    dry: Field
    tilled: Field
    flowers: Field
    covers: NDArray[np.uint8]


@dataclass(frozen=True)
class Surface:
    """A tile's land through time. Pixels are flattened, N = H·W.

    `curves` begin `LARGEST_LEAD` days before the period; `lead` int [N] days by which a pixel is late, `vigour`
    [2, N] two patterns (log scale) between which a field's growth wanders, `background` [10, N] reflectance of dry
    bare ground, `wettable` [N] how much rain darkens it, `canopy_tint` [10, P] a parcel's own factor.
    """

    landscape: Landscape
    curves: Curves
    lead: NDArray[np.int64]
    vigour: Field
    background: Field
    wettable: Field
    canopy_tint: Field

    def state(self, day: NDArray[np.int64]) -> PixelState:
        """The pixels on the given days of the period (0 the first)."""
        parcels = self.landscape.parcels.ravel()
        days = self.curves.leaf_area.shape[1]
        entry = parcels * days + (day[:, None] + LARGEST_LEAD - self.lead[None])
        phase = (2 * np.pi / 240 * day[:, None]).astype(np.float32)
        growth = np.exp(np.cos(phase) * self.vigour[0] + np.sin(phase) * self.vigour[1])
        curves = self.curves
        return PixelState(
            leaf_area=curves.leaf_area.ravel()[entry] * growth,
            dry=curves.dry.ravel()[entry],
            tilled=curves.tilled.ravel()[entry],
            flowers=curves.flowers.ravel()[entry],
            covers=curves.covers.ravel()[entry],
        )


def draw_surface(config: SimulationConfig, days: NDArray[np.datetime64], generator: np.random.Generator) -> Surface:
    """A random tile over the consecutive `days` of the period."""
    shape = (config.height, config.width)
    landscape = draw_landscape(*shape, config.field_hectares, generator)
    margin = np.timedelta64(LARGEST_LEAD, "D")
    curves = draw_curves(landscape.covers, np.arange(days[0] - margin, days[-1] + margin + 1), generator)
    parcels = landscape.parcels.ravel()
    late = 3.0 * texture(shape, 15.0, 3.0, generator).ravel() + 0.6 * generator.standard_normal(parcels.size)
    lead = np.rint(late).astype(np.int64).clip(-LARGEST_LEAD, LARGEST_LEAD)
    vigour = np.stack([0.16 * texture(shape, 12.0, 2.5, generator).ravel() for _ in range(2)])
    cover = landscape.covers[parcels]
    built = cover == COVER_NUMBER["built-up"]
    vigour[:, built] += 0.8 * generator.standard_normal((1, int(built.sum())), dtype=np.float32)  # gardens and roofs
    background, wettable = _ground(landscape, shape, generator)
    brightness = generator.normal(1.0, 0.06, (1, len(landscape.covers)))
    tint = (brightness * generator.normal(1.0, 0.05, (10, len(landscape.covers)))).astype(np.float32)
    return Surface(landscape, curves, lead, vigour.astype(np.float32), background, wettable, tint)


def _ground(landscape: Landscape, shape: tuple[int, int], generator: np.random.Generator) -> tuple[Field, Field]:
    """Dry background reflectance [10, N] and how much moisture darkens it [N]."""
    parcels = landscape.parcels.ravel()
    cover = landscape.covers[parcels]
    tile_soil = SOIL * generator.normal(0.95, 0.1) * (1 + 0.08 * generator.standard_normal() * np.linspace(-1, 1, 10))
    patches = 0.10 * texture(shape, 25.0, 3.0, generator).ravel()
    field_tone = generator.normal(0.0, 0.14, len(landscape.covers))[parcels]
    background = (tile_soil[:, None] * np.exp(patches + field_tone)[None]).astype(np.float32)
    wettable = np.ones(len(parcels), np.float32)
    for name, spectrum, spread, wet in (
        ("built-up", ROOFS, 0.32, 0.2),
        ("road", TARMAC, 0.06, 0.3),
        ("water", WATER_BODY, 0.05, 0.0),
    ):
        pixels = cover == COVER_NUMBER[name]
        tone = np.exp(spread * generator.standard_normal(int(pixels.sum()), dtype=np.float32))
        background[:, pixels] = spectrum[:, None] * tone
        wettable[pixels] = wet
    return background, wettable

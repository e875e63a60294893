"""The land surface that both sensors observe: the state of each pixel on any day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation.covers import COVER_NUMBER, ROOFS, SOIL, TARMAC, WATER_BODY
from restore_dit.data.simulation.landscape import Landscape, draw_landscape
from restore_dit.data.simulation.phenology import Curves, draw_curves
from restore_dit.data.simulation.random_fields import autoregressive, texture

LARGEST_LEAD = 8
"""Maximum number of days by which part of a field may be ahead of or behind its parcel's curve."""

_LEADS = np.array([-8, -4, 0, 4, 8])

_LEAF_MEMORY = 8.0  # days

_MOTTLED_GROUND = np.float32(0.3)
"""How much darker the ground is where more grows on it, on the logarithmic scale of both."""

Field = NDArray[np.float32]


@dataclass(frozen=True)
class PatchState:
    """State of the Q patches of a tile on T days, [T, Q] each; see `Curves`."""

    leaf_area: Field
    brown_area: Field
    dry: Field
    tilled: Field
    flowers: Field
    covers: NDArray[np.uint8]


@dataclass(frozen=True)
class Surface:
    """A tile's land over time. Pixels are flattened, N = H·W.

    A patch is the part of a parcel with the same lead or lag in days.

    - `patches` int [N]: patch number of each pixel; `patch_parcels`, `patch_leads` int [Q]: each patch's parcel and lag
      in days.
    - `curves`: begin `LARGEST_LEAD` days before the period.
    - `vigour` [2, N]: two patterns (log scale) between which growth varies around `mean_vigour` [N].
    - `background` [N, 10]: reflectance of dry bare ground; `wettable` [N]: how much rain darkens it.
    - `slopes` [2, N]: of the ground towards north and east.
    - `chlorophyll` [P]: factor of each parcel; `water`, `angle` [D, P]: factor and degrees for each day of the period,
      since wind, drought and dew affect leaves in ways that growth models do not capture.
    """

    landscape: Landscape
    curves: Curves
    patches: NDArray[np.intp]
    patch_parcels: NDArray[np.int64]
    patch_leads: NDArray[np.int64]
    vigour: Field
    mean_vigour: Field
    background: Field
    wettable: Field
    slopes: Field
    chlorophyll: Field
    water: Field
    angle: Field

    def state(self, day: NDArray[np.int64]) -> PatchState:
        """The state of the patches on the given days of the period (0 is the first)."""
        curves, today = self.curves, day[:, None] + LARGEST_LEAD
        led = today - self.patch_leads
        # Parts of a field grow earlier or later, but the farmer works all of it on the same day.
        same = curves.works[self.patch_parcels, led] == curves.works[self.patch_parcels, today]
        entry = (self.patch_parcels, np.where(same, led, today))
        return PatchState(
            leaf_area=curves.leaf_area[entry],
            brown_area=curves.brown_area[entry],
            dry=curves.dry[entry],
            tilled=curves.tilled[entry],
            flowers=curves.flowers[entry],
            covers=curves.covers[entry],
        )

    def growth(self, day: int) -> Field:
        """The factor [N] by which pixels are leafier than their patch on a day."""
        phase = 2 * np.pi / 240 * day
        wandering = np.float32(np.cos(phase)) * self.vigour[0] + np.float32(np.sin(phase)) * self.vigour[1]
        return self.mean_vigour * np.exp(wandering)


def draw_surface(config: SimulationConfig, days: NDArray[np.datetime64], generator: np.random.Generator) -> Surface:
    """A random tile over the consecutive `days` of the period."""
    shape = (config.height, config.width)
    landscape = draw_landscape(config, generator)
    margin = np.timedelta64(LARGEST_LEAD, "D")
    lead = np.timedelta64(config.season_lead, "D")
    calendar = np.arange(days[0] + lead - margin, days[-1] + lead + margin + 1)
    curves = draw_curves(landscape.covers, calendar, generator, config.summer_drought)
    parcels = landscape.parcels.ravel()
    count = len(landscape.covers)
    # The per-pixel term blurs the borders between patches.
    late = 3.2 * texture(shape, 15.0, 3.0, generator).ravel() + 1.2 * generator.standard_normal(parcels.size)
    zone = np.abs(late[:, None] - _LEADS).argmin(axis=1)
    patch, patches = np.unique(parcels * len(_LEADS) + zone, return_inverse=True)
    vigour = np.stack([0.16 * texture(shape, 12.0, 2.5, generator).ravel() for _ in range(2)])
    cover = landscape.covers[parcels]
    built = cover == COVER_NUMBER["built-up"]
    vigour[:, built] += 0.8 * generator.standard_normal((1, int(built.sum())), dtype=np.float32)  # gardens and roofs
    background, wettable = _ground(landscape, shape, generator)
    scattered = _mottle(config.mottle, cover, shape, generator)
    return Surface(
        landscape=landscape,
        curves=curves,
        patches=patches,
        patch_parcels=patch // len(_LEADS),
        patch_leads=_LEADS[patch % len(_LEADS)],
        vigour=vigour.astype(np.float32),
        mean_vigour=np.float32(config.vigour) * np.exp(scattered),
        background=background * np.exp(-_MOTTLED_GROUND * scattered)[:, None],
        wettable=wettable,
        slopes=_slopes(shape, config.relief, generator),
        chlorophyll=np.exp(generator.normal(0, 0.2, count)).astype(np.float32),
        water=np.exp(generator.normal(0, 0.2, count) + 0.2 * _wander(len(days), count, generator)).astype(np.float32),
        angle=generator.normal(0, 6, count).astype(np.float32) + np.float32(7) * _wander(len(days), count, generator),
    )


def _ground(landscape: Landscape, shape: tuple[int, int], generator: np.random.Generator) -> tuple[Field, Field]:
    """Background reflectance [N, 10] when dry, and how much moisture darkens it [N]."""
    parcels = landscape.parcels.ravel()
    cover = landscape.covers[parcels]
    tile_soil = SOIL * generator.normal(1.0, 0.1) * (1 + 0.08 * generator.standard_normal() * np.linspace(-1, 1, 10))
    patches = 0.10 * texture(shape, 25.0, 3.0, generator).ravel()
    field_tone = generator.normal(0.0, 0.18, len(landscape.covers))[parcels]
    background = (tile_soil * np.exp(patches + field_tone)[:, None]).astype(np.float32)
    wettable = np.ones(len(parcels), np.float32)
    for name, spectrum, spread, wet in (
        ("built-up", ROOFS, 0.32, 0.2),
        ("road", TARMAC, 0.06, 0.3),
        ("water", WATER_BODY, 0.05, 0.0),
    ):
        pixels = cover == COVER_NUMBER[name]
        tone = np.exp(spread * generator.standard_normal(int(pixels.sum()), dtype=np.float32))
        background[pixels] = spectrum * tone[:, None]
        wettable[pixels] = wet
    return background, wettable


def _mottle(strength: float, cover: NDArray[np.int64], shape: tuple[int, int], generator: np.random.Generator) -> Field:
    """Permanent differences in leaf area between pixels [N], natural logarithm: half of the variance is per pixel, half
    in clumps of a few pixels."""
    if not strength:
        return np.zeros(cover.shape, np.float32)
    pixels = generator.standard_normal(shape, dtype=np.float32) + texture(shape, 6.0, 3.0, generator)
    bare = (cover == COVER_NUMBER["water"]) | (cover == COVER_NUMBER["road"])
    return np.float32(strength * np.sqrt(0.5)) * np.where(bare, np.float32(0), pixels.ravel())


def _wander(days: int, parcels: int, generator: np.random.Generator) -> Field:
    """Stationary processes [D, P] with variance 1 whose correlation falls to 1/e within `_LEAF_MEMORY` days; half of
    the variance is common to all parcels, as weather is."""
    correlation = np.exp(-1 / _LEAF_MEMORY)
    steps = generator.standard_normal((days, parcels), dtype=np.float32)
    steps = np.float32(np.sqrt(0.5)) * (steps + generator.standard_normal((days, 1), dtype=np.float32))
    steps[1:] *= np.float32(np.sqrt(1 - correlation**2))
    return autoregressive(steps, correlation).astype(np.float32)


def _slopes(shape: tuple[int, int], relief: float, generator: np.random.Generator) -> Field:
    """Slopes towards north and east [2, N] of hills whose root mean square slope is `relief`."""
    height = texture((shape[0] + 1, shape[1] + 1), 60.0, 4.5, generator)
    slopes = np.stack([height[:-1, :-1] - height[1:, :-1], height[:-1, 1:] - height[:-1, :-1]])
    slopes *= np.float32(relief) / max(float(np.sqrt((slopes**2).sum(axis=0).mean())), 1e-6)
    return slopes.reshape(2, -1)

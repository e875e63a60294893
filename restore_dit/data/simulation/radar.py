"""C-band backscatter: vegetation over moist soil, with speckle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.simulation.covers import COVER_NUMBER, COVERS
from restore_dit.data.simulation.random_fields import autoregressive, texture
from restore_dit.data.simulation.surface import PatchState, Surface

_VOLUME = 10 ** (np.array([cover.volume for cover in COVERS], np.float32) / 10)  # [cover, polarisation], linear
_ATTENUATION = np.array([cover.attenuation for cover in COVERS], np.float32)
_INCIDENCE = (31.0, 45.0)  # degrees, across the swath of the interferometric wide mode
_MEAN_INCIDENCE = 38.0
_SOIL_SLOPE = (
    -0.13
)  # dB per degree of incidence angle over bare fields (Ulaby and Dobson 1989, Handbook of radar scattering)
_SOIL_DB = (-12.6, -19.8)  # dry and smooth at 38°, in VV and VH
_WALLS, _WALL_DB = 0.10, 7.0  # share of bright built-up pixels in one look direction, and their median brightness
_MOISTURE_DB = (6.0, 4.5)  # from dry to saturated
_TILLAGE_DB = (3.0, 3.4)  # from smooth to ploughed
_FROST_DB = -3.0  # frozen ground and leaves scatter like dry ones
_NEPER = np.float32(np.log(10) / 10)  # natural logarithm of the power of one decibel
_SPECKLE_KERNEL = np.array([0.25, 0.5, 0.25], np.float32)

Backscatter = NDArray[np.float32]


@dataclass(frozen=True)
class Ground:
    """Backscatter in dB of bare, dry ground, [2, N] (VV, VH), and sensitivity to moisture [N]."""

    decibel: Backscatter
    wettable: Backscatter


@dataclass(frozen=True)
class TrackVariation:
    """Variation of a track's T acquisitions over the P parcels, beyond leaf area and moisture.

    - `shift`: of the total backscatter, in dB [T, P].
    - `ruffle`: of the surface backscatter only (wind on water), in dB [T, P].
    - `incidence`: incidence angle in degrees.
    - `walls`: brightening in dB [N] by double bounce from walls and streets that face the sensor.
    """

    shift: Backscatter
    ruffle: Backscatter
    incidence: float
    walls: Backscatter

    def select(self, frames: slice) -> TrackVariation:
        """The variation of some of the acquisitions."""
        return replace(self, shift=self.shift[frames], ruffle=self.ruffle[frames])


def draw_ground(surface: Surface, generator: np.random.Generator) -> Ground:
    """Soil of each parcel, buildings, roads, smooth water and tree trunks."""
    shape = surface.landscape.parcels.shape
    parcels = surface.landscape.parcels.ravel()
    cover = surface.landscape.covers[parcels]
    tone = (
        generator.normal(0, 1.7, len(surface.landscape.covers))[parcels]
        + 0.9 * texture(shape, 20.0, 3.0, generator).ravel()
    )
    decibel = np.array(_SOIL_DB)[:, None] + tone[None]
    wettable = np.ones(len(parcels))
    for name, level, spread in (
        ("built-up", (-5.5, -13.0), 3.5),
        ("road", (-13.0, -21.0), 0.5),
        ("water", (-20.0, -27.0), 0.5),
        ("deciduous forest", (-9.5, -15.5), 0.6),
        ("coniferous forest", (-10.0, -15.5), 0.6),
    ):
        pixels = cover == COVER_NUMBER[name]
        spots = spread * generator.standard_normal(int(pixels.sum()))
        decibel[:, pixels] = np.array(level)[:, None] + spots[None]
        wettable[pixels] = 0.15
    return Ground(decibel.astype(np.float32), wettable.astype(np.float32))


def draw_track(surface: Surface, frozen: NDArray[np.bool_], generator: np.random.Generator) -> TrackVariation:
    """Variation of one track with T acquisitions, given whether the ground is `frozen` [T] at each."""
    covers = surface.landscape.covers
    frames, parcels = len(frozen), len(covers)
    water = covers == COVER_NUMBER["water"]
    aspect = generator.normal(0, 1.0, parcels)  # row directions and slopes, the same on each date
    # Canopy structure that leaf area does not capture: slow, and independent for each parcel.
    memory = 0.85
    steps = generator.standard_normal((frames, parcels))
    steps[1:] *= np.sqrt(1 - memory**2)
    structure = 0.8 * autoregressive(steps, memory)
    calibration = 0.25 * generator.standard_normal((frames, 1))
    frost = _FROST_DB * (frozen[:, None] & ~water)
    wind = 2.5 * generator.standard_normal((frames, 1)) * water
    built = covers[surface.landscape.parcels.ravel()] == COVER_NUMBER["built-up"]
    facing = built & (generator.random(built.size) < _WALLS)
    walls = np.where(facing, _WALL_DB * generator.lognormal(0.0, 0.4, built.size), 0.0)
    return TrackVariation(
        shift=(aspect + structure + calibration + frost).astype(np.float32),
        ruffle=wind.astype(np.float32),
        incidence=float(generator.uniform(*_INCIDENCE)),
        walls=walls.astype(np.float32),
    )


def render_backscatter(
    surface: Surface,
    ground: Ground,
    state: PatchState,
    moisture: NDArray[np.float32],
    variation: TrackVariation,
    looks: float,
    generator: np.random.Generator,
) -> Backscatter:
    """VV and VH in dB, [T, 2, H, W], of T acquisitions of one track; `moisture` [T].

    Water-cloud model: σ = A·(1 − τ²) + σ_ground·τ² with τ² = exp(−2·B·V/cos θ) (Attema and Ulaby 1978, Vegetation
    modeled as a water cloud), where V is the green leaf area plus half of the withered one. The soil's backscatter in
    dB is linear in moisture and roughness.
    """
    frames, shape = len(moisture), surface.landscape.parcels.shape
    parcels, patches = surface.landscape.parcels.ravel(), surface.patches
    biomass = state.leaf_area + np.float32(0.5) * state.brown_area
    through = np.exp(_ATTENUATION[state.covers] * biomass * np.float32(-2 / np.cos(np.deg2rad(variation.incidence))))
    slope = np.float32(_SOIL_SLOPE * (variation.incidence - _MEAN_INCIDENCE))
    # The volume backscatter is proportional to the cosine of the incidence angle.
    slant = np.float32(np.cos(np.deg2rad(variation.incidence)) / np.cos(np.deg2rad(_MEAN_INCIDENCE)))
    values = np.empty((frames, 2, *shape), np.float32)
    for polarisation in range(2):
        factor = through * np.exp(_NEPER * np.float32(_TILLAGE_DB[polarisation]) * state.tilled)
        volume = slant * _VOLUME[:, polarisation][state.covers] * (1 - through)
        bare = np.exp(_NEPER * (ground.decibel[polarisation] + variation.walls + slope))
        for frame in range(frames):
            wet = np.float32(_MOISTURE_DB[polarisation] * moisture[frame]) * ground.wettable
            power = bare * np.exp(_NEPER * (wet + variation.ruffle[frame][parcels]))
            power *= factor[frame][patches]
            power += volume[frame][patches]
            power = power.reshape(1, *shape) * speckle((1, *shape), looks, generator)
            values[frame, polarisation] = np.log(np.maximum(power[0], np.float32(1e-5))) / _NEPER
            values[frame, polarisation] += variation.shift[frame][parcels].reshape(shape)
    return values


def speckle(shape: tuple[int, ...], looks: float, generator: np.random.Generator) -> Backscatter:
    """Multiplicative noise [T, H, W] with mean 1 and variance 1/looks, correlated between neighbouring pixels: gamma
    noise smoothed with a kernel, its shape parameter chosen so that the smoothed noise has the requested number of
    looks."""
    frames, height, width = shape
    # Smoothing averages noise and so adds looks: the raw noise has correspondingly fewer.
    gain = float((_SPECKLE_KERNEL**2).sum()) ** 2
    raw = generator.standard_gamma(looks * gain, (frames, height + 2, width + 2), dtype=np.float32)
    a, b, c = _SPECKLE_KERNEL / np.float32(looks * gain)
    rows = a * raw[:, :-2] + b * raw[:, 1:-1] + c * raw[:, 2:]
    a, b, c = _SPECKLE_KERNEL
    return a * rows[:, :, :-2] + b * rows[:, :, 1:-1] + c * rows[:, :, 2:]

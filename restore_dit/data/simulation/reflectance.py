"""What the optical sensor sees of a cloudless surface: ten bands from canopy, straw, soil and moisture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.simulation.covers import CANOPY_REFLECTANCE, RAPESEED_FLOWERS, STRAW
from restore_dit.data.simulation.random_fields import texture
from restore_dit.data.simulation.surface import PixelState, Surface

_WAVELENGTH = np.array([0.49, 0.56, 0.665, 0.705, 0.74, 0.783, 0.842, 0.865, 1.61, 2.19])  # µm, S2_BANDS
_IS_20_M = np.array([False, False, False, True, True, True, False, True, True, True])
_EXTINCTION = np.array([0.75, 0.75, 0.75, 0.62, 0.42, 0.42, 0.42, 0.42, 0.55, 0.62], np.float32)
_WET_DARKENING = np.array([0.38, 0.38, 0.38, 0.38, 0.36, 0.36, 0.36, 0.36, 0.42, 0.48], np.float32)


@dataclass(frozen=True)
class FrameOffsets:
    """What makes frames of one surface differ: `gain` and `haze` [T, 10] (reflectance = gain·surface + haze) and
    `unevenness` [T, 1, H, W], the share by which haze varies over the tile."""

    gain: NDArray[np.float32]
    haze: NDArray[np.float32]
    unevenness: NDArray[np.float32]

    def select(self, frames: slice) -> FrameOffsets:
        """The offsets of some frames."""
        return FrameOffsets(self.gain[frames], self.haze[frames], self.unevenness[frames])


def draw_offsets(
    orbit: NDArray[np.int64], shape: tuple[int, int], strength: float, generator: np.random.Generator
) -> FrameOffsets:
    """Offsets of T frames. A gain of some percent in all bands stands for sun and view angles and for atmospheric
    correction, and differs between orbits; aerosol falls with wavelength^-1.3 (an Ångström exponent usual on land)."""
    frames = len(orbit)
    view = generator.normal(0, 0.06, 2)[orbit][:, None]
    common = view + 0.075 * generator.standard_normal((frames, 1)) + 0.02 * generator.standard_normal((frames, 10))
    aerosol = (generator.gamma(2.0, 0.012, (frames, 1)) - 0.017) * (_WAVELENGTH / 0.49) ** -1.3
    patterns = np.stack([texture(shape, 80.0, 4.0, generator) for _ in range(3)])
    mixture = generator.standard_normal((frames, 3), dtype=np.float32) * np.float32(0.2)
    unevenness = np.tensordot(mixture, patterns, axes=1)[:, None]
    return FrameOffsets(
        np.exp(strength * common).astype(np.float32),
        (strength * aerosol).astype(np.float32),
        (1 + unevenness).astype(np.float32),
    )


def render_reflectance(
    surface: Surface,
    state: PixelState,
    moisture: NDArray[np.float32],
    offsets: FrameOffsets,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """Reflectance [T, 10, H, W] of T frames without clouds; `moisture` [T].

    A band is R = R∞ + (R_ground − R∞)·exp(−K·LAI), after Baret and Guyot (1991), Potentials and limits of vegetation
    indices for LAI and APAR assessment; ground is soil, darker when wet, below straw.
    """
    frames, shape = len(moisture), surface.landscape.parcels.shape
    parcels = surface.landscape.parcels.ravel()
    values = np.empty((frames, 10, *shape), np.float32)
    transmitted = {k: np.exp(-k * state.leaf_area) for k in np.unique(_EXTINCTION)}
    wetness = (moisture[:, None] * surface.wettable[None]).astype(np.float32)
    shaded = 1 - np.float32(0.12) * state.tilled  # clods of a ploughed field
    blooming = bool((state.flowers > 0.01).any())
    for band in range(10):
        ground = surface.background[band] * (1 - _WET_DARKENING[band] * wetness) * shaded
        ground += state.dry * (STRAW[band] * (1 - np.float32(0.2) * wetness) - ground)
        canopy = CANOPY_REFLECTANCE[:, band][state.covers]
        canopy *= surface.canopy_tint[band][parcels]
        if blooming:
            canopy += state.flowers * (RAPESEED_FLOWERS[band] - canopy)
        ground -= canopy
        ground *= transmitted[_EXTINCTION[band]]
        ground += canopy
        frame = _blur(ground.reshape(frames, *shape), 0.25 if _IS_20_M[band] else 0.12)
        frame *= offsets.gain[:, band, None, None]
        frame += offsets.haze[:, band, None, None] * offsets.unevenness[:, 0]
        noise = generator.standard_normal(frame.shape, dtype=np.float32)
        frame += noise * (np.float32(0.002) + np.float32(0.01) * frame)
        values[:, band] = frame
    return values


def _blur(frames: NDArray[np.float32], side: float) -> NDArray[np.float32]:
    """[T, H, W] with each pixel sharing `side` with each neighbour along rows, then columns: the sensor's point spread,
    and for bands of 20 m their coarser pixels."""
    for axis in (1, 2):
        padding = [(0, 0)] * 3
        padding[axis] = (1, 1)
        padded = np.pad(frames, padding, mode="edge")
        before, after = (padded[:, :-2], padded[:, 2:]) if axis == 1 else (padded[:, :, :-2], padded[:, :, 2:])
        frames = (1 - 2 * np.float32(side)) * frames + np.float32(side) * (before + after)
    return frames

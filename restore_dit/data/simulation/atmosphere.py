"""Residual errors of atmospheric correction on each date: haze and gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.simulation.random_fields import texture
from restore_dit.data.simulation.revisit import Geometry

WAVELENGTH = np.array([0.49, 0.56, 0.665, 0.705, 0.74, 0.783, 0.833, 0.865, 1.61, 2.19])  # µm, S2_BANDS
_HAZE_BRIGHTNESS = (
    0.35  # reflectance of an infinitely thick layer: haze brightens darker land and darkens brighter land
)
_RETRIEVAL_ERROR = 0.006  # standard deviation of the residual reflectance in the blue at a solar zenith of 45°
_STRAY_LIGHT = (
    0.007  # adjacency effect: light scattered in from a pixel's surroundings, left in dark land by correction
)
_GAIN_ERROR = 0.075  # common to all bands
# Independent in each band; larger near water vapour absorption and where dew affects reflectance.
_BAND_ERROR = np.array([0.012] * 8 + [0.06, 0.08])

Field = NDArray[np.float32]


@dataclass(frozen=True)
class FrameOffsets:
    """Atmospheric effects on T frames: `gain` and `haze` [T, 10] turn a reflectance r into gain·(r + haze·(1 −
    r/0.35)); `unevenness` [T, H, W] is the spatial variation of haze over the tile."""

    gain: Field
    haze: Field
    unevenness: Field

    def over(self, frame: int, scene: Field) -> Field:
        """The scene [10, H, W] as seen through the atmosphere of one frame."""
        haze = self.haze[frame][:, None, None] * self.unevenness[frame]
        return self.gain[frame][:, None, None] * (scene + haze * (1 - scene / np.float32(_HAZE_BRIGHTNESS)))


def draw_offsets(
    geometry: list[Geometry], shape: tuple[int, int], strength: float, generator: np.random.Generator
) -> FrameOffsets:
    """Offsets of T frames; none with `strength` 0. The error of the retrieved aerosol decreases as wavelength^-1.3 (a
    typical Ångström exponent over land), is negative as often as positive, and grows with the path length through the
    atmosphere."""
    frames = len(geometry)
    zenith = np.array([angles.sun_zenith for angles in geometry])[:, None]
    path = np.cos(np.pi / 4) / np.cos(zenith).clip(0.25)
    errors = _RETRIEVAL_ERROR * path * generator.standard_normal((frames, 1)) + generator.gamma(0.5, 0.01, (frames, 1))
    haze = (errors - 0.005) * (WAVELENGTH / 0.49) ** -1.3 + _STRAY_LIGHT
    gain = _GAIN_ERROR * path * generator.standard_normal((frames, 1))
    gain = gain + _BAND_ERROR * generator.standard_normal((frames, 10))
    patterns = np.stack([texture(shape, 80.0, 4.0, generator) for _ in range(3)])
    mixture = generator.standard_normal((frames, 3), dtype=np.float32) * np.float32(0.25)
    return FrameOffsets(
        np.exp(strength * gain).astype(np.float32),
        (strength * haze).astype(np.float32),
        1 + np.tensordot(mixture, patterns, axes=1),
    )

"""What lies between the ground and a file: residual errors of atmospheric correction on each date (haze and gain), and
effects of the instrument (point spread, 20 m bands, registration error, noise)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.simulation.random_fields import texture
from restore_dit.data.simulation.revisit import Geometry

_FINE = [0, 1, 2, 6]  # rows of S2_BANDS sampled at 10 m
_COARSE = [3, 4, 5, 7, 8, 9]  # … and at 20 m
# A Gaussian with this standard deviation in the band's own pixels has a modulation transfer of 0.25 at the Nyquist
# frequency, within the range 0.15–0.30 that ESA's Sentinel-2 user handbook requires.
_POINT_SPREAD = 0.53

Field = NDArray[np.float32]


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


@dataclass(frozen=True)
class Sampling:
    """How one frame samples a scene at 10 m: matrices [H, H] and [W, W] that act on rows and columns, for the 10 m
    bands and for the 20 m bands, which are interpolated back to 10 m."""

    fine: tuple[Field, Field]
    coarse: tuple[Field, Field]

    def apply(self, scene: Field) -> Field:
        """The bands [10, H, W] of a scene as the instrument delivers them."""
        frame = np.empty_like(scene)
        for bands, (rows, columns) in ((_FINE, self.fine), (_COARSE, self.coarse)):
            frame[bands] = rows @ scene[bands] @ columns.T
        return frame


def sampling(shape: tuple[int, int], shift: tuple[float, float]) -> Sampling:
    """The sampling of a frame whose pixels are misregistered by `shift` (down, right), in pixels of 10 m."""
    fine, coarse = [], []
    for size, offset in zip(shape, shift, strict=True):
        pixels = np.arange(size)
        fine.append(_gaussian(pixels + offset, size, _POINT_SPREAD))
        centres = np.arange(0.5, max(size, 2), 2)
        sampled = _gaussian(centres + offset, size, 2 * _POINT_SPREAD)
        coarse.append(_interpolation(pixels, centres) @ sampled)
    return Sampling((fine[0], fine[1]), (coarse[0], coarse[1]))


def instrument_noise(scene: Field, generator: np.random.Generator) -> Field:
    """Noise [10, H, W] from the detectors and from sub-pixel texture. The point spread function halves it; the
    remainder, 0.002 plus 1 % of the reflectance, matches homogeneous fields."""
    noise = generator.standard_normal(scene.shape, dtype=np.float32)
    return noise * (np.float32(0.0035) + np.float32(0.018) * scene)


def _gaussian(centres: NDArray[np.floating], size: int, width: float) -> Field:
    """Weights [n, size] of the pixels around each centre; rows sum to 1, also at the tile's edge."""
    reach = 5 * width  # a centre farther outside would have no pixel of any weight
    centres = centres.clip(-reach, size - 1 + reach)
    weights = np.exp(-0.5 * ((np.arange(size) - centres[:, None]) / width) ** 2)
    weights[weights < 1e-6] = 0  # subnormal numbers are slow to multiply
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _interpolation(pixels: NDArray[np.int64], centres: NDArray[np.float64]) -> Field:
    """Weights [n, centres] of linear interpolation between centres at intervals of 2, constant beyond the outermost."""
    weights = (1 - np.abs(pixels[:, None].clip(centres[0], centres[-1]) - centres) / 2).clip(0)
    return weights.astype(np.float32)

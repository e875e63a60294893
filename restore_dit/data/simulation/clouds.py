"""Clouds over a frame: thick cores, thin rims, veils, and the shadows that the sun casts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import ndtri

from restore_dit.data.simulation.random_fields import random_field
from restore_dit.series import CLEAR, SHADOW, THICK_CLOUD, THIN_CLOUD

#                     B02   B03   B04   B05   B06   B07   B08   B8A   B11   B12
_CLOUD = np.array([0.62, 0.60, 0.61, 0.64, 0.66, 0.67, 0.68, 0.68, 0.45, 0.36], np.float32)
# Share of the light that a shadow takes; skylight, strongest in the blue, remains.
_SHADE = np.array([0.45, 0.52, 0.58, 0.60, 0.64, 0.66, 0.68, 0.69, 0.76, 0.80], np.float32)

_VEIL_SHARE = 0.2  # of the frames lie below a veil of cirrus, times the cloudiness
_LEAST_OPACITY = 0.05  # thinner cloud is left out, so that what is called clear is clear
_THICK_OPACITY = 0.5
_LEAST_SHADE = 0.2
_PADDING = 64  # pixels of sky around the tile, in whose clouds shadows begin

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Sky:
    """Over one frame, [H, W] each: `opacity` of cloud and `shade` of shadow in 0–1, `brightness` of the cloud."""

    opacity: Field
    shade: Field
    brightness: Field

    def classes(self) -> NDArray[np.uint8]:
        """Cloud classes uint8 [H, W]."""
        classes = np.full(self.opacity.shape, CLEAR, np.uint8)
        classes[self.shade > 0] = SHADOW
        classes[self.opacity > 0] = THIN_CLOUD
        classes[self.opacity > _THICK_OPACITY] = THICK_CLOUD
        return classes

    def over(self, frame: Field) -> Field:
        """The frame [10, H, W] as seen through this sky; pixels of class clear stay as they are."""
        shaded = frame * (1 - _SHADE[:, None, None] * self.shade)
        return shaded + self.opacity * (_CLOUD[:, None, None] * self.brightness - shaded)


def draw_sky(
    shape: tuple[int, int],
    cover: float,
    cloudiness: float,
    zenith: float,
    azimuth: float,
    generator: np.random.Generator,
) -> Sky | None:
    """The sky over a tile, or None where it is clear. `cover` is the expected share of cloud in it,
    `cloudiness` that of the climate; the sun's angles (radians) and the clouds' height, 0.6–3 km, place the shadows."""
    veiled = generator.random() < _VEIL_SHARE * cloudiness
    if cover <= 0 and not veiled:
        return None
    height, width = shape
    padded = (fft.next_fast_len(height + _PADDING, real=True), fft.next_fast_len(width + _PADDING, real=True))
    opacity, shade = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    thickness = np.zeros(shape, np.float32)
    if cover > 0:
        winter = zenith > np.deg2rad(60)
        outer_scale = np.exp(generator.uniform(np.log(80 if winter else 25), np.log(250)))
        form = random_field(padded, outer_scale, generator.uniform(3.3, 4.3), generator)
        # No sky is quite full: the threshold stops at 4 standard deviations.
        depth = np.maximum(form - float(ndtri(max(1 - cover, 3e-5))), 0)
        depth *= np.float32(np.exp(generator.uniform(np.log(1.2), np.log(5))))
        full = _visible(1 - np.exp(-depth))
        opacity, thickness = full[:height, :width], depth[:height, :width]
        length = generator.uniform(60, 300) * float(np.tan(zenith))  # pixels from a cloud to its shadow
        down, right = round(length * np.cos(azimuth)), round(-length * np.sin(azimuth))
        # Away from the sun: the shadow of the cloud at (row, column) falls on (row + down, column + right).
        cast = np.roll(full, (down, right), axis=(0, 1))[:height, :width]
        shade = np.where(cast > _LEAST_SHADE, cast, 0).astype(np.float32)
    if veiled:
        veil = generator.uniform(0.08, 0.4) * np.exp(0.5 * random_field(padded, 60.0, 3.6, generator))
        veil = _visible(veil[:height, :width].clip(0, 0.75))
        opacity = (1 - (1 - opacity) * (1 - veil)).astype(np.float32)
    albedo = generator.lognormal(-0.1, 0.25)
    brightness = np.float32(albedo) * (np.float32(0.6) + np.float32(0.4) * np.tanh(thickness / 4))
    return Sky(opacity, shade, brightness.clip(0.3, 1.5).astype(np.float32))


def _visible(opacity: Field) -> Field:
    """Opacity with what nobody would see taken away, and no step where it begins."""
    return ((opacity - np.float32(_LEAST_OPACITY)) / np.float32(1 - _LEAST_OPACITY)).clip(0, 1)

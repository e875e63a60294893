"""Clouds over a frame: thick cores, thin edges, veils of cirrus, the shadows they cast, and the masks of a detector
that finds most of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import ndtr, ndtri

from restore_dit.data.simulation.random_fields import random_field
from restore_dit.data.simulation.revisit import Geometry
from restore_dit.series import CLEAR, SHADOW, THICK_CLOUD, THIN_CLOUD

#                  B02   B03   B04   B05   B06   B07   B08   B8A   B11   B12
_ALBEDO = np.array([1.0, 0.98, 0.97, 0.97, 0.96, 0.96, 0.96, 0.95, 1.00, 0.84], np.float32)
_IS_SHORTWAVE = np.array([False] * 8 + [True] * 2)
# Share of the light that a thick cloud's shadow removes; skylight, strongest in the blue, remains.
_SHADE = np.array([0.40, 0.52, 0.60, 0.64, 0.68, 0.70, 0.71, 0.72, 0.80, 0.84], np.float32)
# Seconds after B02 at which a band sees the same ground (ESA, Sentinel-2 user handbook; accurate to 2 % according to
# Binet, Bergsma and Poulain 2022, ISPRS Annals V-1): the parallax of clouds therefore differs between bands.
_DELAY = np.array([0.0, 0.527, 1.005, 1.269, 1.525, 1.790, 0.264, 2.055, 1.468, 2.085])
_ORBIT_HEIGHT, _ORBIT_SPEED = 786_000.0, 7_450.0  # metres, metres per second

_PIXEL = 10.0
_VEIL_SHARE = 0.2  # share of frames with a veil of cirrus, times the cloudiness
_MIN_REFLECTANCE = 0.02  # thinner cloud is removed, so that pixels labelled clear are clear
_THICK_REFLECTANCE = 0.25
_MIN_SHADE, _FULL_SHADE = 0.08, 0.6  # cloud reflectance at which shadows begin and are full
_PADDING = 192  # pixels of sky beyond the tile, whose clouds can cast shadows into it

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Sky:
    """The sky over one frame.

    - `cloud`: reflectance [10, H, W] of a non-absorbing cloud, as each band sees it.
    - `shade`: shadow strength [H, W] in 0–1.
    - `absorption`: factor by which the cloud is darker around 1.6 µm.
    - `brightness`: factor for sunlit or shaded flanks and for atmospheric correction not designed for clouds.
    """

    cloud: Field
    shade: Field
    absorption: float
    brightness: float

    def classes(self) -> NDArray[np.uint8]:
        """Cloud classes uint8 [H, W]; cloud in any band makes a pixel cloudy."""
        densest = self.cloud.max(axis=0)
        classes = np.full(self.shade.shape, CLEAR, np.uint8)
        classes[self.shade > 0] = SHADOW
        classes[densest > 0] = THIN_CLOUD
        classes[self.cloud.mean(axis=0) > _THICK_REFLECTANCE] = THICK_CLOUD
        return classes

    def over(self, frame: Field) -> Field:
        """The frame [10, H, W] as seen through this sky; pixels of class clear stay unchanged.

        A cloud of reflectance c over ground of reflectance s appears as c + (1 − c)²·s/(1 − c·s), the sum over multiple
        reflections between the two (van de Hulst 1980, Multiple light scattering, chapter 4).
        """
        albedo = np.where(_IS_SHORTWAVE, self.absorption, 1).astype(np.float32) * _ALBEDO
        ground = frame * (1 - _SHADE[:, None, None] * self.shade)
        bright = self.cloud * albedo[:, None, None]
        return self.brightness * bright + (1 - self.cloud) ** 2 * ground / (1 - bright * ground)


def draw_sky(
    shape: tuple[int, int], cover: float, cloudiness: float, geometry: Geometry, generator: np.random.Generator
) -> Sky | None:
    """The sky over a tile, or None if it is clear. `cover` is its expected cloud fraction, `cloudiness` that of the
    climate. The angles of sun and sensor and the cloud height, 0.5–4 km, determine the position of shadows."""
    veiled = generator.random() < _VEIL_SHARE * cloudiness
    if cover <= 0 and not veiled:
        return None
    padded = tuple(fft.next_fast_len(size + _PADDING, real=True) for size in shape)
    height = np.exp(generator.uniform(np.log(500), np.log(4000)))
    cloud, shade = np.zeros((10, *shape), np.float32), np.zeros(shape, np.float32)
    absorption = generator.uniform(0.65, 0.95)
    if cover > 0:
        low_sun = geometry.sun_zenith > np.deg2rad(60)
        outer_scale = np.exp(generator.uniform(np.log(100 if low_sun else 40), np.log(400)))
        form = random_field((padded[0], padded[1]), outer_scale, generator.uniform(3.45, 4.4), generator)
        # Clipped at 4 standard deviations: neither a completely full sky nor a single speck of cloud is realistic.
        threshold = float(ndtri(np.clip(1 - cover, 3e-5, 1 - 3e-5)))
        depth = np.maximum(form - np.float32(threshold), 0)
        # The mean of a normal variable above the threshold, so that thickness does not depend on the cover.
        mean_depth = np.exp(-(threshold**2) / 2) / np.sqrt(2 * np.pi) / ndtr(-threshold) - threshold
        thickness = depth * np.float32(generator.lognormal(-0.25, 0.9) / mean_depth)
        sheet = _visible(thickness / (1 + thickness))
        cloud = _as_bands_see(sheet, height, shape)
        down, right = _shadow_offset(height, geometry)
        # The sky is periodic: a shadow from beyond its edge is cast by the clouds on the opposite side.
        cast = np.roll(sheet, (round(down / _PIXEL), round(right / _PIXEL)), axis=(0, 1))[: shape[0], : shape[1]]
        shade = ((cast - _MIN_SHADE) / (_FULL_SHADE - _MIN_SHADE)).clip(0, 1)
        if generator.random() < 0.15:  # ice
            absorption = generator.uniform(0.3, 0.65)
    if veiled:
        veil = generator.uniform(0.05, 0.3) * np.exp(0.5 * random_field((padded[0], padded[1]), 150.0, 5.0, generator))
        veil = _visible((veil / (1 + veil)).astype(np.float32))
        cirrus = _as_bands_see(veil, generator.uniform(7000, 11000), shape)
        cloud = 1 - (1 - cloud) * (1 - cirrus)
    return Sky(cloud, shade.astype(np.float32), float(absorption), float(generator.lognormal(-0.2, 0.55)))


def _visible(reflectance: Field) -> Field:
    """Cloud reflectance with an invisible amount subtracted, continuous where cloud begins."""
    least = np.float32(_MIN_REFLECTANCE)
    return ((reflectance - least) / (1 - least)).clip(0, 1)


def _as_bands_see(sheet: Field, height: float, shape: tuple[int, int]) -> Field:
    """The cloud sheet [h, w] at a height in metres as seen by the bands [10, H, W], which view the ground one after
    another from the north (descending orbit): a later band looks back and sees the cloud farther north."""
    parallax = height / _ORBIT_HEIGHT * _ORBIT_SPEED * (_DELAY - _DELAY.mean()) / _PIXEL
    rows = (np.arange(shape[0]) + np.rint(parallax)[:, None].astype(int)) % len(sheet)
    return sheet[rows][:, :, : shape[1]]


def _shadow_offset(height: float, geometry: Geometry) -> tuple[float, float]:
    """Metres (down, right) from the image of a cloud to its shadow: away from the sun, plus the correction for the
    cloud's parallax at the sensor's view angle."""
    from_sun = height * np.tan(geometry.sun_zenith)
    down, right = from_sun * np.cos(geometry.sun_azimuth), -from_sun * np.sin(geometry.sun_azimuth)
    # A sensor in the east (view above 0) displaces the cloud to the west, so that the shadow lies farther east of it.
    return float(down), float(right + height * np.tan(geometry.view))


_CLOUD_SEEN = 0.05  # reflectance of the thinnest detected cloud, median over frames
_SPREAD = 0.7  # standard deviation of its logarithm between frames
_SHADOW_MISSED = 0.8  # share of frames in which the detector finds no shadow at all
_SHADE_SEEN = 0.35


def detect(sky: Sky, errors: float, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Detected classes uint8 [H, W]: the truth with `errors` 0, errors like those of Sen2Cor's scene classification
    with 1.

    The detector works at 20 m, misses thin cloud to a degree that varies between dates, and misses all shadow on most
    dates.
    """
    threshold = errors * _CLOUD_SEEN * generator.lognormal(0, _SPREAD)
    shadows_missed = generator.random() < errors * _SHADOW_MISSED
    truth = sky.classes()
    if errors == 0:
        return truth
    densest = sky.cloud.mean(axis=0)
    found = np.full(truth.shape, CLEAR, np.uint8)
    if not shadows_missed:
        found[sky.shade > errors * _SHADE_SEEN] = SHADOW
    found[densest > threshold] = THIN_CLOUD
    found[(truth == THICK_CLOUD) & (densest > min(threshold, 0.3))] = THICK_CLOUD
    # At 20 m, as Sen2Cor classifies: its masks have steps of two pixels.
    height, width = truth.shape
    return found[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)[:height, :width]

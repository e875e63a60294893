"""Effects of the instrument on a scene: point spread, 20 m bands, registration error, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FINE = [0, 1, 2, 6]  # rows of S2_BANDS sampled at 10 m
_COARSE = [3, 4, 5, 7, 8, 9]  # … and at 20 m
# A Gaussian with this standard deviation in the band's own pixels has a modulation transfer of 0.25 at the Nyquist
# frequency, within the range 0.15–0.30 that ESA's Sentinel-2 user handbook requires.
_POINT_SPREAD = 0.53

Field = NDArray[np.float32]


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
    weights = np.exp(-0.5 * ((np.arange(size) - centres[:, None]) / width) ** 2)
    weights[weights < 1e-6] = 0  # subnormal numbers are slow to multiply
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _interpolation(pixels: NDArray[np.int64], centres: NDArray[np.float64]) -> Field:
    """Weights [n, centres] of linear interpolation between centres at intervals of 2, constant beyond the outermost."""
    weights = (1 - np.abs(pixels[:, None].clip(centres[0], centres[-1]) - centres) / 2).clip(0)
    return weights.astype(np.float32)

"""How ten bands are displayed: as colour composites with one common stretch, and as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.image
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]

GAMMA = 1 / 1.3
"""Brightens fields and forest, which are much darker than roofs and bare soil."""


@dataclass(frozen=True)
class Composite:
    """Three bands shown as red, green and blue."""

    name: str
    bands: tuple[str, str, str]

    def available(self, bands: Sequence[str]) -> bool:
        """Whether the composite can be made from these bands."""
        return set(self.bands) <= set(bands)

    def pick(self, values: FloatArray, bands: Sequence[str]) -> FloatArray:
        """The composite's bands of values [T, C, H, W], as [T, H, W, 3] in the same units."""
        return np.moveaxis(values[:, [list(bands).index(band) for band in self.bands]], 1, -1)


TRUE_COLOUR = Composite("true colour", ("B04", "B03", "B02"))
FALSE_COLOUR = Composite("false colour", ("B08", "B04", "B03"))
SHORTWAVE = Composite("short-wave infrared", ("B11", "B8A", "B05"))
"""For series that only have the 20 m bands."""

COMPOSITES = (TRUE_COLOUR, FALSE_COLOUR, SHORTWAVE)


def natural_composite(bands: Sequence[str]) -> Composite:
    """The most natural composite that the bands allow; if none is possible, the first band in grey."""
    return next((one for one in COMPOSITES if one.available(bands)), Composite(bands[0], (bands[0],) * 3))


@dataclass(frozen=True)
class Stretch:
    """A linear stretch from `low` to `high` of each channel, followed by gamma correction."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def apply(self, image: FloatArray) -> NDArray[np.float64]:
        """Image [..., 3] stretched to values between 0 and 1; NaN stays NaN."""
        return np.clip((image - self.low) / (self.high - self.low), 0, 1) ** GAMMA


def robust_stretch(images: FloatArray, clear: NDArray[np.bool_]) -> Stretch:
    """One stretch for all images [T, H, W, 3]: the medians over frames of each frame's 1st and 99th percentiles where
    `clear` [T, H, W].

    The medians keep a bright roof, or a frame with an undetected cloud, from darkening all images.
    """
    usable = clear & np.isfinite(images).all(axis=-1)
    frames = [image[pixels].astype(np.float64) for image, pixels in zip(images, usable, strict=True) if pixels.any()]
    if not frames:
        return Stretch(np.zeros(3), np.ones(3))
    low, high = np.median([np.percentile(pixels, (1, 99), axis=0) for pixels in frames], axis=0)
    return Stretch(low, np.maximum(high, low + 1e-3))


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """The image uint8 [H, W, 3 or 4] as PNG."""
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, image, format="png")
    return buffer.getvalue()


def encode_colours(image: NDArray[np.floating]) -> bytes:
    """The image [H, W, 3] with values between 0 and 1 as PNG, transparent where a channel is NaN."""
    known = np.isfinite(image).all(axis=-1, keepdims=True)
    return encode_png((255 * np.concatenate([np.nan_to_num(image), known], axis=-1)).round().astype(np.uint8))

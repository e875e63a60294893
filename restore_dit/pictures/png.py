"""Encodes images as PNG, one image pixel per array element."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
from numpy.typing import NDArray


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """The image uint8 [H, W, 3 or 4] as PNG."""
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, image, format="png")
    return buffer.getvalue()


def encode_colours(image: NDArray[np.floating]) -> bytes:
    """The image [H, W, 3] with values between 0 and 1 as PNG, transparent where a channel is NaN."""
    known = np.isfinite(image).all(axis=-1, keepdims=True)
    return encode_png((255 * np.concatenate([np.nan_to_num(image), known], axis=-1)).round().astype(np.uint8))

"""Images as PNG files, a pixel a pixel."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
from numpy.typing import NDArray


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """[H, W, 3 or 4] as it is."""
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, image, format="png")
    return buffer.getvalue()


def encode_colours(image: NDArray[np.floating]) -> bytes:
    """[H, W, 3] between 0 and 1; transparent where a channel is NaN."""
    known = np.isfinite(image).all(axis=-1, keepdims=True)
    return encode_png((255 * np.concatenate([np.nan_to_num(image), known], axis=-1)).round().astype(np.uint8))

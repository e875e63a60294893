"""Structural similarity of frames (Wang et al. 2004), computed as for the published figures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, maximum_filter

WINDOW = 5
SIGMA = 1.5
STABILISER_LUMINANCE = 0.01**2
STABILISER_CONTRAST = 0.03**2
"""C1 and C2 for values with a range of 1."""


def _gaussian_window() -> NDArray[np.float64]:
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    return weights / weights.sum()


def _smooth(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian mean around each pixel of [C, H, W], with zeros outside the image."""
    window = _gaussian_window()
    return correlate1d(correlate1d(images, window, axis=-1, mode="constant"), window, axis=-2, mode="constant")


def ssim_map(target: NDArray[np.floating], prediction: NDArray[np.floating]) -> NDArray[np.float64]:
    """SSIM around each pixel and band, in [-1, 1], of two frames [C, H, W] with a value range of 1."""
    first, second = target.astype(np.float64), prediction.astype(np.float64)
    mean_first, mean_second = _smooth(first), _smooth(second)
    variance_first = _smooth(first**2) - mean_first**2
    variance_second = _smooth(second**2) - mean_second**2
    covariance = _smooth(first * second) - mean_first * mean_second
    similarity = (2 * mean_first * mean_second + STABILISER_LUMINANCE) * (2 * covariance + STABILISER_CONTRAST)
    return similarity / (
        (mean_first**2 + mean_second**2 + STABILISER_LUMINANCE)
        * (variance_first + variance_second + STABILISER_CONTRAST)
    )


def frame_dissimilarity(target: NDArray[np.floating], prediction: NDArray[np.floating]) -> tuple[float, int]:
    """Sum of clamp((1 − SSIM)/2, 0, 1) over one frame [C, H, W], and the number of summed values.

    NaN in a band of the target means no data: every window that touches such a pixel is excluded, in all bands.
    """
    no_data = np.isnan(target).any(axis=0)
    if not no_data.any():
        halves = np.clip((1 - ssim_map(target, prediction)) / 2, 0, 1)
        return float(halves.sum()), halves.size
    touched = maximum_filter(no_data, size=WINDOW, mode="constant")
    blank = np.zeros_like(target[:, :1, :1])
    halves = np.clip((1 - ssim_map(np.where(no_data, blank, target), np.where(no_data, blank, prediction))) / 2, 0, 1)[
        :, ~touched
    ]
    return float(halves.sum()), halves.size

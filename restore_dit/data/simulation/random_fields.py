"""Smooth random fields for texture within fields, haze and clouds, and temporal processes for weather and growth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft


def random_field(
    shape: tuple[int, int], outer_scale: float, slope: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """A periodic Gaussian field [H, W] with mean 0 and expected variance 1.

    Its power spectrum is (k² + 1/outer_scale²)^(-slope/2), with k in cycles per pixel: flat beyond `outer_scale`
    pixels, a power law below (slope about 3 for clouds; larger is smoother).
    """
    height, width = shape
    rows = fft.fftfreq(height).astype(np.float32)[:, None]
    columns = fft.rfftfreq(width).astype(np.float32)[None]
    amplitude = (rows**2 + columns**2 + np.float32(outer_scale**-2)) ** np.float32(-slope / 4)
    # In the half spectrum every frequency column except the first (and, for even widths, the last) counts twice.
    weight = np.full(columns.shape, 2.0)
    weight[:, 0] = 1.0
    if width % 2 == 0:
        weight[:, -1] = 1.0
    amplitude[0, 0] = 0.0
    power = float((weight * amplitude.astype(np.float64) ** 2).sum())
    amplitude *= np.float32(np.sqrt(height * width / power))
    white = generator.standard_normal(shape, dtype=np.float32)
    return fft.irfft2(fft.rfft2(white) * amplitude, s=shape)


def texture(
    shape: tuple[int, int], outer_scale: float, slope: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """A `random_field` cropped from a larger one, so that opposite edges of the tile do not match."""
    padded = (fft.next_fast_len(shape[0] + 32, real=True), fft.next_fast_len(shape[1] + 32, real=True))
    return random_field(padded, outer_scale, slope, generator)[: shape[0], : shape[1]]


def autoregressive(steps: NDArray[np.floating], memory: float, before: float = 0.0) -> NDArray[np.float64]:
    """The process x_t = memory · x_{t-1} + steps_t along the first axis, starting from x = `before`.

    scipy.signal.lfilter gives bit-identical results, but takes more than a second to import.
    """
    series = np.array(steps, np.float64)
    previous: NDArray[np.float64] | float = before
    for at in range(len(series)):
        series[at] += memory * previous
        previous = series[at]
    return series

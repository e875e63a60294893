"""The masks of a simulated cloud detector: which of the clouds and shadows present it finds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.simulation.clouds import Sky
from restore_dit.series import CLEAR, SHADOW, THICK_CLOUD, THIN_CLOUD

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
    height, width = truth.shape
    return found[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)[:height, :width]

"""Converts reflectance and dB to the integers that a series stores.

The same rule applies to both: a value outside the range of these integers becomes no data and is never clipped.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restore_dit.series import NO_DATA

_LARGEST = np.iinfo(np.int16).max


def within_range(values: NDArray[np.floating], scale: int) -> NDArray[np.floating]:
    """The values, NaN where they exceed ±32767 steps of 1/scale. Applied before interpolation, so that neighbouring
    pixels are not affected by such values."""
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(np.rint(values * scale)) <= _LARGEST, values, np.nan)


def stored_integers(values: NDArray[np.floating], scale: int) -> NDArray[np.int16]:
    """values · scale as int16, `NO_DATA` for NaN and for values outside the range."""
    held = within_range(values, scale)
    missing = np.isnan(held)
    return np.where(missing, NO_DATA, np.rint(np.where(missing, 0.0, held) * scale).astype(np.int16))

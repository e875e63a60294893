"""From reflectance and dB to the whole numbers that a series holds.

One rule for both: what these numbers cannot hold is no data, never the nearest number that they can.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restore_dit.series import NO_DATA

_LARGEST = np.iinfo(np.int16).max


def within_range(values: NDArray[np.floating], scale: int) -> NDArray[np.floating]:
    """The values, NaN where ±32767 steps of 1/scale are too few: before an image is interpolated, so that what lies
    beside such a value is not drawn towards it."""
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(np.rint(values * scale)) <= _LARGEST, values, np.nan)


def stored_integers(values: NDArray[np.floating], scale: int) -> NDArray[np.int16]:
    """int16 of values · scale, `NO_DATA` for NaN and for what int16 does not hold beside it."""
    held = within_range(values, scale)
    missing = np.isnan(held)
    return np.where(missing, NO_DATA, np.rint(np.where(missing, 0.0, held) * scale).astype(np.int16))

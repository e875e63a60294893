"""From reflectance and dB to the whole numbers that a series holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restore_dit.series import NO_DATA


def stored_integers(values: NDArray[np.floating], scale: int) -> NDArray[np.int16]:
    """int16 of values · scale, `NO_DATA` for NaN; clipped to what int16 holds beside `NO_DATA`."""
    missing = np.isnan(values)
    integers = np.rint(np.where(missing, 0.0, values) * scale).clip(NO_DATA + 1, np.iinfo(np.int16).max)
    return np.where(missing, NO_DATA, integers.astype(np.int16))

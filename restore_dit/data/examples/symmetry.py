"""The eight symmetries (mirroring and transposition) of a square."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def transform(values: NDArray[Scalar], which: int) -> NDArray[Scalar]:
    """`values` [..., H, W] under symmetry `which`, from 0 (none) to 7."""
    if which & 1:
        values = values[..., ::-1, :]
    if which & 2:
        values = values[..., :, ::-1]
    if which & 4:
        values = np.swapaxes(values, -1, -2)
    return values

"""Splits a series with more frames than the network takes into overlapping windows in time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CLOUDY_SHARE = 0.1
"""A window starts at another frame if more than this share of its first frame is missing."""


def time_windows(cloud_shares: Sequence[float] | NDArray[np.floating], length: int) -> list[tuple[int, int]]:
    """Half-open windows [start, stop) of `length` frames that cover the whole series.

    cloud_shares: [n] share of missing pixels in each frame, 0 … 1.
    length: frames per window, at least 1; a series of up to this length is one window [0, n).

    Each window starts half a length after the previous one or, if that frame is cloudy, at the clearest frame nearby,
    so that the first frame gives the network something to start from. Starts ascend, and the last window ends at n.
    Source: Stucker et al., "U-TILISE" (2023), as RESTORE-DiT applies it to long series.

    Raises:
        ValueError: `length` is below 1.
    """
    if length < 1:
        raise ValueError(f"a window needs at least one frame, got length {length}")
    shares = np.asarray(cloud_shares)
    if len(shares) <= length:
        return [(0, len(shares))] if len(shares) else []
    windows = [(0, length)]
    while windows[-1][1] < len(shares):
        start = _next_start(shares, windows[-1][0], length)
        windows.append((start, start + length))
    return windows


def _next_start(shares: NDArray[np.floating], previous: int, length: int) -> int:
    """Start of the window that follows the one starting at `previous`."""
    half = length // 2
    standard = previous + max(half, 1)
    last = len(shares) - length
    if standard > last or shares[standard] <= CLOUDY_SHARE:
        return min(standard, last)
    reach = (half + 1) // 2
    # With windows of two or three frames, the search would include the previous start and never advance.
    first = max(standard - reach, previous + 1)
    candidates = range(first, min(standard + reach + 1, len(shares)))
    clearest = min(candidates, key=lambda frame: (shares[frame], abs(frame - standard), frame))
    return min(clearest, last)

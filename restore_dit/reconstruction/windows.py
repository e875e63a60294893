"""Windows in time: how a series longer than the network's is cut into overlapping runs of frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CLOUDY_SHARE = 0.1
"""A window starts elsewhere when more than this share of its first frame is missing."""


def time_windows(cloud_shares: Sequence[float] | NDArray[np.floating], length: int) -> list[tuple[int, int]]:
    """Half-open windows [start, stop) of `length` frames that cover the whole series.

    cloud_shares: [n] the share of missing pixels in each frame, 0 … 1.
    length: frames in a window, at least 1; a series that is no longer is one window [0, n).

    Each window begins half a length after the one before it, or, where that frame is cloudy, at the clearest frame
    nearby, because what the network sees first should be something to hold on to. Starts ascend, and the last window
    ends at n. Source: Stucker et al., "U-TILISE" (2023), as RESTORE-DiT applies it to long series.
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
    """Where the window after the one that starts at `previous` starts."""
    half = length // 2
    standard = previous + max(half, 1)
    last = len(shares) - length
    if standard > last or shares[standard] <= CLOUDY_SHARE:
        return min(standard, last)
    reach = (half + 1) // 2
    # Only windows of two or three frames reach back to their own start, and would then stand still.
    first = max(standard - reach, previous + 1)
    candidates = range(first, min(standard + reach + 1, len(shares)))
    clearest = min(candidates, key=lambda frame: (shares[frame], abs(frame - standard), frame))
    return min(clearest, last)

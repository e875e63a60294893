"""Splits a series with more frames than the network takes into overlapping windows in time, and joins their
predictions into one series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

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


Frames = NDArray[np.floating]
"""Consecutive frames of a series, [t, C, H, W]."""


def join_frame(earlier: Frames, later: Frames) -> int:
    """Index of the frame at which to switch from `earlier` to `later`, two predictions [t, C, H, W] of the same frames:
    the first one with the smallest mean absolute difference. 0 for an empty overlap."""
    if not len(earlier):
        return 0
    # Frame by frame, to avoid a temporary array as large as the window.
    return int(np.argmin([np.abs(a - b).mean(dtype=np.float64) for a, b in zip(earlier, later, strict=True)]))


def joined_blocks(predictions: Iterable[Frames], windows: Sequence[tuple[int, int]]) -> Iterator[Frames]:
    """Yields the joined series in order, in blocks [t, C, H, W] that no later window changes.

    predictions: [stop − start, C, H, W] for each window, in order. They are consumed one at a time, so that a generator
    that runs the model keeps no more than two windows in memory.
    windows: from `time_windows`: starts ascend, and no window begins after the previous one ends.

    From the `join_frame` of each overlap on, frames come from the next window.

    Raises:
        ValueError: a prediction has another number of frames than its window.
    """
    next_starts = [start for start, _ in windows[1:]] + [windows[-1][1]] if windows else []
    pending: Frames | None = None
    for (start, stop), next_start, prediction in zip(windows, next_starts, predictions, strict=True):
        if len(prediction) != stop - start:
            raise ValueError(f"window [{start}, {stop}) has {stop - start} frames, its prediction {len(prediction)}")
        if pending is None or not len(pending):
            joined = prediction
        else:
            # `pending` begins at `start`, because all earlier frames were yielded with the previous window.
            join = join_frame(pending, prediction[: len(pending)])
            joined = np.concatenate([pending[:join], prediction[join:]])
        yield joined[: next_start - start]
        # A copy, because a view would keep the whole window in memory while the next one is predicted.
        pending = joined[next_start - start :].copy()


def join_windows(predictions: Iterable[Frames], windows: Sequence[tuple[int, int]]) -> Frames:
    """The whole joined series [n, C, H, W]; see `joined_blocks`, which needs less memory.

    Raises:
        ValueError: there are no windows.
    """
    if not windows:
        raise ValueError("a series without frames has nothing to join")
    return np.concatenate(list(joined_blocks(predictions, windows)))

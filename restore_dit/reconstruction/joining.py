"""Joining the predictions of overlapping windows in time into one series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

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

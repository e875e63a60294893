"""Joining the predictions of overlapping windows in time into one series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.floating]
"""Consecutive frames of a series, [t, C, H, W]."""


def join_frame(earlier: Frames, later: Frames) -> int:
    """Index of the frame at which `later` takes over: where the two predictions of the same frames, both
    [t, C, H, W], have the smallest mean absolute difference; of equals the first. 0 for an empty overlap."""
    if not len(earlier):
        return 0
    # A frame at a time, so that no difference as large as a window is held.
    return int(np.argmin([np.abs(a - b).mean(dtype=np.float64) for a, b in zip(earlier, later, strict=True)]))


def joined_blocks(predictions: Iterable[Frames], windows: Sequence[tuple[int, int]]) -> Iterator[Frames]:
    """Yields the joined series from its first frame to its last, in blocks [t, C, H, W] that no later window changes.

    predictions: [stop − start, C, H, W] for each window, in order; read one at a time, so that a generator that runs
    the model keeps no more than two windows in memory.
    windows: what `time_windows` returned: starts ascend, and none begins after the one before it ended.

    What has been joined so far and the next window meet at `join_frame` of their overlap; that frame and all later
    ones come from the next window.
    """
    next_starts = [start for start, _ in windows[1:]] + [windows[-1][1]] if windows else []
    pending: Frames | None = None
    for (start, stop), next_start, prediction in zip(windows, next_starts, predictions, strict=True):
        if len(prediction) != stop - start:
            raise ValueError(f"window [{start}, {stop}) has {stop - start} frames, its prediction {len(prediction)}")
        if pending is None or not len(pending):
            joined = prediction
        else:
            # `pending` begins at `start`: everything before was yielded when this window's start became the limit.
            join = join_frame(pending, prediction[: len(pending)])
            joined = np.concatenate([pending[:join], prediction[join:]])
        yield joined[: next_start - start]
        # A copy, lest the view keep the whole window alive while the next one is predicted.
        pending = joined[next_start - start :].copy()


def join_windows(predictions: Iterable[Frames], windows: Sequence[tuple[int, int]]) -> Frames:
    """The whole joined series [n, C, H, W]: see `joined_blocks`, which needs less memory."""
    if not windows:
        raise ValueError("a series without frames has nothing to join")
    return np.concatenate(list(joined_blocks(predictions, windows)))

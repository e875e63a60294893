"""Several images of one day, from overlapping swaths or separate files, become one: per pixel the best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restore_dit.series import CLEAR, CLOUD_NO_DATA, NO_DATA


def unique_days(times: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    """The days on which there is an image, ascending."""
    return np.unique(times.astype("datetime64[D]"))


def merge_days(
    values: NDArray[np.int16], times: NDArray[np.datetime64], clouds: NDArray[np.uint8] | None = None
) -> tuple[NDArray[np.int16], NDArray[np.datetime64], NDArray[np.uint8] | None]:
    """One image a day, by date.

    Of a day's images each pixel comes from one that has all bands, rather clear than cloudy, rather cloudy than of
    unknown class; of equals from the earliest. Only bands that are missing there are filled from the others.

    Args:
        values: int16 [N, C, H, W], `NO_DATA` where missing.
        times: datetime64 [N], in any order.
        clouds: uint8 [N, H, W], or None where unknown.

    Returns:
        values [T, C, H, W], dates datetime64[D] [T] ascending without repeats, clouds [T, H, W] or None.
    """
    order = np.argsort(times, kind="stable")
    days = times[order].astype("datetime64[D]")
    dates, first, count = np.unique(days, return_index=True, return_counts=True)
    merged = values[order[first]]
    merged_clouds = None if clouds is None else clouds[order[first]]
    for index in np.flatnonzero(count > 1):
        members = order[first[index] : first[index] + count[index]]
        if clouds is None or merged_clouds is None:
            merged[index], _ = _best(values[members], None)
        else:
            merged[index], merged_clouds[index] = _best(values[members], clouds[members])
    return merged, dates, merged_clouds


def _best(values: NDArray[np.int16], clouds: NDArray[np.uint8] | None) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    present = (values != NO_DATA).sum(axis=1)  # [n, H, W] bands
    rank = present * 4
    if clouds is not None:
        # Clear counts for more than the cloudy only among pixels that have equally many bands.
        rank += np.where(clouds == CLEAR, 2, np.where(clouds == CLOUD_NO_DATA, 0, 1))
    ranking = np.argsort(-rank, axis=0, kind="stable")
    best = np.take_along_axis(values, ranking[:1, None], axis=0)[0]
    classes = np.zeros(best.shape[1:], np.uint8)
    if clouds is not None:
        classes = np.take_along_axis(clouds, ranking[:1], axis=0)[0]
    for place in range(1, len(values)):
        other = np.take_along_axis(values, ranking[place : place + 1, None], axis=0)[0]
        best = np.where(best == NO_DATA, other, best)
        if clouds is not None:
            other_classes = np.take_along_axis(clouds, ranking[place : place + 1], axis=0)[0]
            classes = np.where(classes == CLOUD_NO_DATA, other_classes, classes)
    return best, classes

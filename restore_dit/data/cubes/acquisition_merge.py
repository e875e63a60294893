"""Merges several images of one day, from overlapping swaths or separate files, into one with the best value per pixel.

An image belongs to the day on which its overpass began: an overpass that crosses midnight UTC is one acquisition.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.cubes.times import overpass_days
from restore_dit.series import CLEAR, CLOUD_NO_DATA, NO_DATA


def merge_days(
    values: NDArray[np.int16], times: NDArray[np.datetime64], clouds: NDArray[np.uint8] | None = None
) -> tuple[NDArray[np.int16], NDArray[np.datetime64], NDArray[np.uint8] | None]:
    """One image per day, dated by when its overpass began.

    Each pixel comes from the image that has all bands there, preferring clear over cloudy and cloudy over unknown, and
    among equals the earliest. Only bands missing there are filled from the others.

    Args:
        values: int16 [N, C, H, W], `NO_DATA` where missing.
        times: datetime64 [N], in any order.
        clouds: uint8 [N, H, W], or None where unknown.

    Returns:
        values [T, C, H, W], dates datetime64[D] [T] strictly increasing, clouds [T, H, W] or None.
    """
    merged, dates, masks = merge_days_and_masks(values, times, () if clouds is None else (clouds,))
    return merged, dates, masks[0] if masks else None


def merge_days_and_masks(
    values: NDArray[np.int16], times: NDArray[np.datetime64], masks: Sequence[NDArray[np.uint8]]
) -> tuple[NDArray[np.int16], NDArray[np.datetime64], list[NDArray[np.uint8]]]:
    """`merge_days` with any number of masks uint8 [N, H, W]. The first determines which image is clear. The others do
    not affect the choice: they are taken from the image that each pixel comes from, or from an image that shares no
    band with it there, such as another file of the same image whose time differs by seconds."""
    days = overpass_days(times)
    order = np.lexsort((times, days))
    dates, first, count = np.unique(days[order], return_index=True, return_counts=True)
    merged = values[order[first]]
    merged_masks = [mask[order[first]] for mask in masks]
    for index in np.flatnonzero(count > 1):
        members = order[first[index] : first[index] + count[index]]
        merged[index], of_day = _best(values[members], [mask[members] for mask in masks])
        for merged_mask, mask in zip(merged_masks, of_day, strict=True):
            merged_mask[index] = mask
    return merged, dates, merged_masks


def _best(
    values: NDArray[np.int16], masks: Sequence[NDArray[np.uint8]]
) -> tuple[NDArray[np.int16], list[NDArray[np.uint8]]]:
    present = (values != NO_DATA).sum(axis=1)  # [n, H, W] bands
    # Four times, so that one more band outweighs whatever the mask adds.
    rank = present * 4
    if masks:
        # Being clear only decides between pixels with the same number of bands.
        rank += np.where(masks[0] == CLEAR, 2, np.where(masks[0] == CLOUD_NO_DATA, 0, 1))
    ranking = np.argsort(-rank, axis=0, kind="stable")
    best = chosen = np.take_along_axis(values, ranking[:1, None], axis=0)[0]
    classes = [np.take_along_axis(mask, ranking[:1], axis=0)[0] for mask in masks]
    for place in range(1, len(values)):
        other = np.take_along_axis(values, ranking[place : place + 1, None], axis=0)[0]
        best = np.where(best == NO_DATA, other, best)
        apart = ((chosen == NO_DATA) | (other == NO_DATA)).all(axis=0)
        for index, mask in enumerate(masks):
            other_classes = np.take_along_axis(mask, ranking[place : place + 1], axis=0)[0]
            filled = (classes[index] == CLOUD_NO_DATA) & (apart | (index == 0))
            classes[index] = np.where(filled, other_classes, classes[index])
    return best, classes

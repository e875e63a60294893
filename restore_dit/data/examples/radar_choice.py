"""Which radar acquisitions are shown with which optical dates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evenly_spread(count: int, wanted: int) -> NDArray[np.intp]:
    """Indices trunc(linspace(0, count - 1, wanted)), including both ends; some repeat if count < wanted."""
    return np.linspace(0, count - 1, wanted).astype(np.intp)


def nearest_acquisitions(optical_days: NDArray[np.floating], radar_days: NDArray[np.floating]) -> NDArray[np.intp]:
    """For each optical date, the index of the nearest radar date; the earlier of two at the same distance, the first of
    equal dates (as in the published method)."""
    distance = np.abs(optical_days[:, None] - radar_days[None, :])
    return distance.argmin(axis=1)


def around(
    optical_days: NDArray[np.floating], radar_days: NDArray[np.floating], most: int, margin_days: float = 6.0
) -> NDArray[np.intp]:
    """Indices of at most `most` acquisitions, ascending: first the nearest to each optical date, then evenly spaced
    ones in the rest of the span of the optical dates."""
    nearest = np.unique(nearest_acquisitions(optical_days, radar_days))
    if len(nearest) >= most:
        return nearest[evenly_spread(len(nearest), most)]
    in_span = (radar_days >= optical_days.min() - margin_days) & (radar_days <= optical_days.max() + margin_days)
    others = np.setdiff1d(np.flatnonzero(in_span), nearest)
    if len(others) > most - len(nearest):
        others = others[evenly_spread(len(others), most - len(nearest))]
    return np.sort(np.concatenate([nearest, others]))

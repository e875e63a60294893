"""Agreement of cloud masks with labels: confusion counts, and scores computed from them.

An undefined score is NaN, never 0 or 1: for example a score of a class without labels, or the precision of a class
without predictions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from restore_dit.series import CLEAR, CLOUD_NO_DATA, SHADOW, THICK_CLOUD, THIN_CLOUD

CLASSES = ("clear", "thick cloud", "thin cloud", "shadow")
"""Names of the classes 0 … 3."""

CLOUD = (THICK_CLOUD, THIN_CLOUD)
HIDDEN = (THICK_CLOUD, THIN_CLOUD, SHADOW)
"""Classes in which the ground is not visible as it is."""

Counts = NDArray[np.int64]
"""Confusion counts [4, 4]: pixels by label (row) and prediction (column). Counts of several masks can be added."""


def no_counts() -> Counts:
    """Counts without any pixel."""
    return np.zeros((len(CLASSES), len(CLASSES)), np.int64)


def confusion_counts(labels: NDArray[np.uint8], predictions: NDArray[np.uint8]) -> Counts:
    """Counts of two masks with the same shape. Pixels without data (255) in either mask are ignored."""
    if labels.shape != predictions.shape:
        raise ValueError(f"labels {labels.shape} and predictions {predictions.shape} must have one shape")
    known = (labels != CLOUD_NO_DATA) & (predictions != CLOUD_NO_DATA)
    cells = labels[known].astype(np.int64) * len(CLASSES) + predictions[known]
    return np.bincount(cells, minlength=len(CLASSES) ** 2).reshape(len(CLASSES), len(CLASSES))


def merged(counts: NDArray[np.int64], classes: Sequence[int]) -> Counts:
    """[2, 2]: pixels outside (0) or inside (1) a group of classes, by label and prediction."""
    inside = np.isin(np.arange(len(counts)), classes)
    groups = np.stack([~inside, inside]).astype(np.int64)
    return groups @ counts @ groups.T


def precision(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Precision of each class: share of the pixels predicted as it that are labelled as it; NaN without predictions."""
    return _ratio(np.diag(counts), counts.sum(axis=0))


def recall(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Recall of each class: share of the pixels labelled as it that are predicted as it; NaN without labels."""
    return _ratio(np.diag(counts), counts.sum(axis=1))


def f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 of each class, 2·TP/(2·TP + FP + FN); NaN without labels."""
    labelled = counts.sum(axis=1)
    return np.where(labelled > 0, _ratio(2 * np.diag(counts), labelled + counts.sum(axis=0)), np.nan)


def iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of each class, TP/(TP + FP + FN); NaN without labels."""
    labelled, right = counts.sum(axis=1), np.diag(counts)
    return np.where(labelled > 0, _ratio(right, labelled + counts.sum(axis=0) - right), np.nan)


def cloud_f1(counts: Counts) -> float:
    """F1 of cloud, thick or thin."""
    return float(f1(merged(counts, CLOUD))[1])


def shadow_f1(counts: Counts) -> float:
    """F1 of shadow."""
    return float(f1(counts)[SHADOW])


def hidden_f1(counts: Counts) -> float:
    """F1 of cloud and shadow merged into one class."""
    return float(f1(merged(counts, HIDDEN))[1])


def clear_flagged(counts: Counts) -> float:
    """Share of the pixels labelled clear that are predicted as cloud or shadow; NaN if no pixel is labelled clear."""
    clear = counts[CLEAR]
    return float(_ratio(clear[list(HIDDEN)].sum(), clear.sum()))


def disagreement(labels: NDArray[np.uint8], predictions: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Share of the pixels known in both masks [..., H, W] that only one of them calls clear; 0 if there are none."""
    known = (labels != CLOUD_NO_DATA) & (predictions != CLOUD_NO_DATA)
    differ = ((labels == CLEAR) != (predictions == CLEAR)) & known
    return differ.sum(axis=(-2, -1)) / np.maximum(known.sum(axis=(-2, -1)), 1)


def summary(counts: Counts) -> dict[str, float]:
    """All scores, by their names in metrics and tables."""
    scores = {
        "cloud_f1": cloud_f1(counts),
        "shadow_f1": shadow_f1(counts),
        "hidden_f1": hidden_f1(counts),
        "clear_flagged": clear_flagged(counts),
    }
    for name, score in (("iou", iou), ("f1", f1), ("precision", precision), ("recall", recall)):
        for label, value in zip(CLASSES, score(counts), strict=True):
            scores[f"{name}_{label.replace(' ', '_')}"] = float(value)
    return scores


def _ratio(part: NDArray[np.int64] | np.int64, whole: NDArray[np.int64] | np.int64) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0)

"""How well cloud masks agree with labels: counts of label against prediction, and the scores that follow from them.

A score that cannot be told is NaN, never 0 or 1: that of a class which the labels lack, the precision of a class that
nobody predicted.
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
"""Classes of land that cannot be seen as it is."""

Counts = NDArray[np.int64]
"""[4, 4]: pixels by label (row) and prediction (column). Counts of several masks add up."""


def no_counts() -> Counts:
    """Of no pixel at all."""
    return np.zeros((len(CLASSES), len(CLASSES)), np.int64)


def confusion_counts(labels: NDArray[np.uint8], predictions: NDArray[np.uint8]) -> Counts:
    """Counts of two masks of one shape; pixels without data (255) in either do not count."""
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
    """For each class the share of the pixels predicted so that are labelled so; NaN where nobody predicted it."""
    return _ratio(np.diag(counts), counts.sum(axis=0))


def recall(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each class the share of the pixels labelled so that are predicted so; NaN where no label has it."""
    return _ratio(np.diag(counts), counts.sum(axis=1))


def f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each class 2·TP/(2·TP + FP + FN); NaN where no label has it."""
    labelled = counts.sum(axis=1)
    return np.where(labelled > 0, _ratio(2 * np.diag(counts), labelled + counts.sum(axis=0)), np.nan)


def iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each class TP/(TP + FP + FN); NaN where no label has it."""
    labelled, right = counts.sum(axis=1), np.diag(counts)
    return np.where(labelled > 0, _ratio(right, labelled + counts.sum(axis=0) - right), np.nan)


def cloud_f1(counts: Counts) -> float:
    """F1 of cloud, thick or thin."""
    return float(f1(merged(counts, CLOUD))[1])


def shadow_f1(counts: Counts) -> float:
    """F1 of shadow."""
    return float(f1(counts)[SHADOW])


def hidden_f1(counts: Counts) -> float:
    """F1 of cloud or shadow, whichever."""
    return float(f1(merged(counts, HIDDEN))[1])


def clear_flagged(counts: Counts) -> float:
    """Share of the land labelled clear that is predicted cloud or shadow; NaN where no land is."""
    clear = counts[CLEAR]
    return float(_ratio(clear[list(HIDDEN)].sum(), clear.sum()))


def disagreement(labels: NDArray[np.uint8], predictions: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Of masks [..., H, W] the share of known pixels that one calls clear and the other does not; 0 of none."""
    known = (labels != CLOUD_NO_DATA) & (predictions != CLOUD_NO_DATA)
    differ = ((labels == CLEAR) != (predictions == CLEAR)) & known
    return differ.sum(axis=(-2, -1)) / np.maximum(known.sum(axis=(-2, -1)), 1)


def summary(counts: Counts) -> dict[str, float]:
    """Every score by its name in metrics and tables."""
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

"""Scores of cloud masks: against counting by hand, torchmetrics, and what must hold for any masks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from restore_dit.clouds import scores
from restore_dit.series import CLEAR, CLOUD_NO_DATA, SHADOW, THICK_CLOUD, THIN_CLOUD

CLASS = st.sampled_from([0, 1, 2, 3, 255])
KNOWN = st.sampled_from([0, 1, 2, 3])


@st.composite
def masks(draw, prediction=KNOWN):
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)))
    return draw(arrays(np.uint8, shape, elements=CLASS)), draw(arrays(np.uint8, shape, elements=prediction))


def by_hand(labels, predictions, group):
    """True positives, false positives, false negatives of a group of classes."""
    known = (labels != 255) & (predictions != 255)
    truth, found = np.isin(labels, group)[known], np.isin(predictions, group)[known]
    return (truth & found).sum(), (~truth & found).sum(), (truth & ~found).sum()


@pytest.fixture(scope="module")
def torchmetrics():
    """Imported by the tests that need it alone: that takes seconds."""
    from torchmetrics.functional import classification

    return classification


@given(pair=masks())
def test_counts_are_those_of_torchmetrics(torchmetrics, pair):
    labels, predictions = pair
    expected = torchmetrics.multiclass_confusion_matrix(
        torch.tensor(predictions.astype(int)), torch.tensor(labels.astype(int)), num_classes=4, ignore_index=255
    )
    np.testing.assert_array_equal(scores.confusion_counts(labels, predictions), expected.numpy())


@given(pair=masks())
def test_scores_are_those_of_torchmetrics_where_they_can_be_told(torchmetrics, pair):
    labels, predictions = pair
    counts = scores.confusion_counts(labels, predictions)
    inputs = torch.tensor(predictions.astype(int)), torch.tensor(labels.astype(int))
    oracles = {
        scores.f1: torchmetrics.multiclass_f1_score,
        scores.iou: torchmetrics.multiclass_jaccard_index,
        scores.precision: torchmetrics.multiclass_precision,
        scores.recall: torchmetrics.multiclass_recall,
    }
    for score, oracle in oracles.items():
        expected = oracle(*inputs, num_classes=4, average="none", ignore_index=255).numpy()
        found = score(counts)
        told = np.isfinite(found)
        np.testing.assert_allclose(found[told], expected[told], rtol=1e-6)
        whole = counts.sum(axis=0) if score is scores.precision else counts.sum(axis=1)
        np.testing.assert_array_equal(told, whole > 0)


@given(masks(prediction=CLASS))
def test_groups_count_a_pixel_once(pair):
    labels, predictions = pair
    counts = scores.confusion_counts(labels, predictions)
    for group, score in ((scores.CLOUD, scores.cloud_f1), (scores.HIDDEN, scores.hidden_f1)):
        right, wrong, missed = by_hand(labels, predictions, group)
        if right + missed == 0:
            assert math.isnan(score(counts))
        else:
            assert score(counts) == pytest.approx(2 * right / (2 * right + wrong + missed))
    right, wrong, _ = by_hand(labels, predictions, (CLEAR,))
    clear = ((labels == CLEAR) & (predictions != 255)).sum()
    flagged = ((labels == CLEAR) & np.isin(predictions, (1, 2, 3))).sum()
    found = scores.clear_flagged(counts)
    assert math.isnan(found) if clear == 0 else found == flagged / clear


@given(masks(prediction=CLASS), masks(prediction=CLASS))
def test_counts_of_parts_add_up(first, second):
    whole = [np.concatenate([one.ravel(), other.ravel()]) for one, other in zip(first, second, strict=True)]
    np.testing.assert_array_equal(
        scores.confusion_counts(*first) + scores.confusion_counts(*second), scores.confusion_counts(*whole)
    )


def test_scores_by_hand():
    labels = np.array([[CLEAR, CLEAR, CLEAR, CLEAR], [THICK_CLOUD, THICK_CLOUD, THIN_CLOUD, CLOUD_NO_DATA]], np.uint8)
    predictions = np.array([[CLEAR, CLEAR, CLEAR, SHADOW], [THICK_CLOUD, THIN_CLOUD, CLEAR, THICK_CLOUD]], np.uint8)
    found = scores.summary(scores.confusion_counts(labels, predictions))
    assert found["cloud_f1"] == pytest.approx(2 * 2 / (2 * 2 + 0 + 1))
    assert found["hidden_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert found["clear_flagged"] == 0.25
    assert found["iou_thick_cloud"] == 0.5
    assert found["f1_thick_cloud"] == pytest.approx(2 / 3)
    assert found["precision_thin_cloud"] == 0
    assert found["recall_thin_cloud"] == 0
    assert found["precision_shadow"] == 0


def test_what_cannot_be_told_is_not_a_number():
    labels, predictions = np.zeros((2, 3), np.uint8), np.array([[0, 0, 0], [0, 0, 1]], np.uint8)
    found = scores.summary(scores.confusion_counts(labels, predictions))
    assert found["clear_flagged"] == pytest.approx(1 / 6)
    assert math.isnan(found["cloud_f1"])  # a cloud where the labels have none: no score of 0
    assert math.isnan(found["shadow_f1"])
    assert math.isnan(found["iou_thick_cloud"])
    assert math.isnan(found["precision_shadow"])
    assert found["precision_thick_cloud"] == 0
    nothing = scores.summary(scores.confusion_counts(np.full((2, 3), 255, np.uint8), predictions))
    assert all(math.isnan(value) for value in nothing.values())


def test_masks_of_two_shapes_are_not_compared():
    with pytest.raises(ValueError, match="one shape"):
        scores.confusion_counts(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))

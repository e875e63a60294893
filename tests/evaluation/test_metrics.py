"""Scores of series: the published numbers, and what must hold for any series."""

import json
import math

import numpy as np
import pytest

from restore_dit.evaluation.metrics import (
    PUBLISHED_SCALE,
    REFLECTANCE,
    average_scores,
    published_scale,
    score_frames,
    score_series,
    spectral_angle,
)

PUBLISHED_SUFFIX = {"all": "", "missing": "_{}occluded_input_pixels", "observed": "_{}observed_input_pixels"}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_published_numbers(reference, number):
    golden = np.load(reference / f"metrics_{number}.npz")
    expected = json.loads(str(golden["expected"]))
    scores = score_series(
        golden["target"][0],
        golden["prediction"][0],
        golden["gap_mask"][0, :, 0] > 0,
        golden["target_cloud_mask"][0, :, 0] > 0,
        scale_name=PUBLISHED_SCALE,
    )
    ours = {}
    for pixels, suffix in PUBLISHED_SUFFIX.items():
        for metric in ("mae", "mse", "rmse", "psnr", "sam"):
            ours[f"masked_{metric}{suffix.format('')}"] = getattr(scores.over(pixels), metric)
        ours[f"ssim{suffix.format('images_')}"] = scores.over(pixels).ssim
    assert ours == pytest.approx(expected, rel=0, abs=1e-5)


def example(generator, frames=4, bands=3, size=12):
    target = generator.uniform(0.05, 0.7, (frames, bands, size, size))
    prediction = target + generator.normal(0, 0.05, target.shape)
    gap_mask = generator.random((frames, size, size)) < 0.4
    gap_mask[0] = False
    clouds = generator.random(gap_mask.shape) < 0.1
    return target, prediction, gap_mask, clouds


def test_perfect_prediction():
    target, _, gap_mask, _ = example(np.random.default_rng(0))
    scores = score_series(target, target, gap_mask, None, scale_name=REFLECTANCE)
    for pixels in (scores.all, scores.missing, scores.observed):
        assert (pixels.mae, pixels.rmse, pixels.sam, pixels.psnr) == (0, 0, 0, math.inf)
        assert pixels.ssim == pytest.approx(1)


def test_what_lies_under_a_cloudy_target_counts_only_in_ssim():
    target, prediction, gap_mask, clouds = example(np.random.default_rng(1))
    before = score_series(target, prediction, gap_mask, clouds, scale_name=REFLECTANCE)
    changed = prediction + clouds[:, None]
    after = score_series(target, changed, gap_mask, clouds, scale_name=REFLECTANCE)
    assert (after.missing.mae, after.missing.sam) == (before.missing.mae, before.missing.sam)
    assert after.missing.ssim < before.missing.ssim


def test_no_data_in_the_target_counts_nowhere():
    target, prediction, gap_mask, clouds = example(np.random.default_rng(2))
    prediction[0, :, 6, 6] += 9
    target[0, 1, 6, 6] = np.nan
    scores = score_series(target, prediction, gap_mask, clouds, scale_name=REFLECTANCE)
    far_frame = score_frames(target, prediction, gap_mask, clouds, frames=[0], scale_name=REFLECTANCE)
    for pixels in (scores.all, scores.observed, far_frame.all):
        assert all(math.isfinite(getattr(pixels, metric)) for metric in ("mae", "rmse", "sam", "ssim"))
        assert pixels.rmse < 0.1
        assert pixels.ssim > 0.5


def test_a_wrong_prediction_is_never_hidden():
    target, prediction, gap_mask, _ = example(np.random.default_rng(3))
    prediction[1, 0, 3, 3] = np.nan
    assert math.isnan(score_series(target, prediction, gap_mask, None, scale_name=REFLECTANCE).all.mae)


def test_sets_without_pixels_are_none_and_leave_averages():
    target, prediction, gap_mask, _ = example(np.random.default_rng(4))
    gapped = score_series(target, prediction, gap_mask, None, scale_name=REFLECTANCE)
    whole = score_series(target, prediction, np.zeros_like(gap_mask), None, scale_name=REFLECTANCE)
    lost = score_series(target, prediction, np.ones_like(gap_mask), None, scale_name=REFLECTANCE)
    assert whole.missing.mae is whole.missing.ssim is None
    assert lost.observed.mae is lost.observed.ssim is None
    average = average_scores([gapped, whole, lost])
    assert average.counted == {"all": 3, "missing": 2, "hidden_frames": 1, "partial_frames": 1, "observed": 2}
    assert average.series == 3
    assert average.missing.mae == pytest.approx((gapped.missing.mae + lost.missing.mae) / 2)
    assert average.observed.psnr == pytest.approx((gapped.observed.psnr + whole.observed.psnr) / 2)


def test_missing_pixels_are_those_of_hidden_frames_and_of_partly_visible_ones():
    """A frame is hidden if none of its known pixels is visible: a visible one that is cloudy itself shows nothing."""
    target, prediction, gap_mask, clouds = example(np.random.default_rng(8))
    gap_mask[1] = True
    gap_mask[2] = True
    gap_mask[2, 3, 3], clouds[2, 3, 3] = False, True
    scores = score_series(target, prediction, gap_mask, clouds, scale_name=REFLECTANCE)
    for pixels, frames in (("hidden_frames", [1, 2]), ("partial_frames", [3])):
        alone = score_frames(target, prediction, gap_mask, clouds, frames=frames, scale_name=REFLECTANCE)
        for metric in ("mae", "psnr", "sam", "ssim"):
            assert getattr(scores.over(pixels), metric) == pytest.approx(getattr(alone.missing, metric))


def test_averages_keep_to_one_scale():
    target, prediction, gap_mask, _ = example(np.random.default_rng(5))
    scores = [score_series(target, prediction, gap_mask, None, scale_name=name) for name in ("a", "b")]
    with pytest.raises(ValueError, match="one scale"):
        average_scores(scores)


def test_frames_are_scored_alone():
    target, prediction, gap_mask, _ = example(np.random.default_rng(6))
    gap_mask[:] = False
    gap_mask[2] = True
    alone = score_frames(target, prediction, gap_mask, None, frames=[2], scale_name=REFLECTANCE)
    series = score_series(target, prediction, gap_mask, None, scale_name=REFLECTANCE)
    assert alone.missing == alone.all
    assert alone.missing.mae == pytest.approx(series.missing.mae)
    assert alone.missing.ssim == pytest.approx(series.missing.ssim)
    assert alone.observed.mae is None


def test_published_scale_is_four_fifths_of_reflectance():
    target, prediction, gap_mask, _ = example(np.random.default_rng(7))
    target, prediction = np.clip(target, 0, 0.8), np.clip(prediction, 0, 0.8)
    true = score_series(target, prediction, gap_mask, None, scale_name=REFLECTANCE).missing
    published = score_series(
        published_scale(target), published_scale(prediction), gap_mask, None, scale_name=PUBLISHED_SCALE
    ).missing
    assert true.mae == pytest.approx(0.8 * published.mae)
    assert true.psnr - published.psnr == pytest.approx(1.938, abs=1e-3)
    assert true.sam == pytest.approx(published.sam)


def test_spectral_angle_of_known_spectra():
    first = np.array([[1.0, 0], [1, 0], [0, 0]]).reshape(3, 2, 1, 1)
    second = np.array([[1.0, 1], [0, 2], [1, 0]]).reshape(3, 2, 1, 1)
    angles = spectral_angle(first, second).ravel()
    assert angles[:2] == pytest.approx([45, 90])
    assert math.isnan(angles[2])

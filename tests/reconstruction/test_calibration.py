"""Clear dates are hidden to see how well a series can be filled; a model that is wrong gives way to interpolation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from restore_dit.config import RunConfig
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.data.examples.normalisation import Normalisation, stored_to_published_scale
from restore_dit.data.simulation import simulate_tile
from restore_dit.evaluation.baselines import fill as baseline
from restore_dit.model.denoiser import build_denoiser
from restore_dit.model.pixel_denoiser import PixelDenoiser
from restore_dit.reconstruction.calibration import (
    LEVELS,
    Comparison,
    SeriesCalibration,
    calibrate,
    visible_nearby,
)
from restore_dit.reconstruction.gap_free import fill_gaps, provenance
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.reconstruct import reconstruct, reconstruct_with_deviation
from restore_dit.reconstruction.sampling import SamplingOptions, WindowMaker, sample_windows
from restore_dit.reconstruction.tiling import SpatialTile
from restore_dit.series import TileSeries, days_since_origin

LINEAR_IS_OFF, MODEL_IS_OFF = 0.05, 0.01


def comparisons(
    count: int, answer: float, linear: float, *, whole: bool = True, deviation: float = 0.01, seed: int = 0
) -> list[Comparison]:
    """Dates whose three bands are missed by normal errors of these standard deviations, common to a third of a date."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        truth = random.uniform(0.1, 0.4, (3, 60))
        answers, lines = (truth + size * random.standard_normal((3, 60)) for size in (answer, linear))
        said = np.full((3, 60), deviation)
        found.append(Comparison(whole, *(part.astype(np.float32) for part in (truth, answers, said, lines))))
    return found


def test_a_good_model_is_taken_and_a_bad_one_left():
    good, bad = comparisons(20, MODEL_IS_OFF, LINEAR_IS_OFF), comparisons(20, 20 * MODEL_IS_OFF, MODEL_IS_OFF)
    beside = comparisons(12, MODEL_IS_OFF, LINEAR_IS_OFF, whole=False)
    own, other = calibrate([*good, *beside]), calibrate([*bad, *beside])
    assert own is not None
    assert other is not None
    assert (own.share > 0.9).all()
    assert (other.share[0] < 0.1).all()
    assert (other.share[1] > 0.9).all()
    assert own.dates == (20, 12)


def test_of_few_dates_nothing_is_said():
    assert calibrate(comparisons(3, 1, 0.01)) is None
    assert calibrate([]) is None
    # A few bad dates are not yet a bad model.
    few, many = calibrate(comparisons(4, 0.02, 0.018)), calibrate(comparisons(24, 0.02, 0.018))
    assert few is not None
    assert many is not None
    assert few.share[0].mean() > many.share[0].mean()


@pytest.mark.parametrize("said", [0.002, 0.05])
def test_intervals_hold_what_they_are_to_hold(said):
    """Whatever the model says of its deviation."""
    seen = comparisons(24, 0.02, 0.1, deviation=said) + comparisons(24, 0.01, 0.1, whole=False, deviation=said, seed=1)
    own = calibrate(seen)
    assert own is not None
    for kind, error in ((0, 0.02), (1, 0.01)):
        new = comparisons(200, error, 0.1, whole=not kind, deviation=said, seed=9)
        sizes = np.concatenate([np.abs(one.answer - one.truth).ravel() for one in new]) / said
        found = [(sizes <= width * own.deviation_scale[kind]).mean() for width in own.intervals]
        # Wider than they need be here: errors of real dates are more alike than these.
        assert all(level - 0.02 < share < level + 0.08 for level, share in zip(LEVELS, found, strict=True))


def test_exact_interpolation_leaves_finite_intervals():
    """Of saturated bands, say: errors of nothing, and a model that is off."""
    exact = [one._replace(linear=one.truth) for one in comparisons(20, MODEL_IS_OFF, 0)]
    own = calibrate(exact)
    assert own is not None
    assert (own.share[0] < 0.1).all()
    assert (own.deviation_scale > 0).all()
    assert np.isfinite(own.intervals).all()
    # Without a date of which a part was hidden, both kinds are as the first.
    np.testing.assert_array_equal(own.share[0], own.share[1])
    assert own.deviation_scale[0] == own.deviation_scale[1]


def test_shares_and_scales_pass_from_hidden_to_partly_visible():
    visible = np.ones((5, 1, 60), bool)
    visible[2], visible[4, :, 10:] = False, False
    own = SeriesCalibration(
        (9, 9), 1.0, np.array([[0.0, 1.0], [1.0, 0.5]]), np.array([3.0, 1.0]), np.array([0.7, 1.3, 2.0]), np.eye(2)
    )
    share, scale = own.share_at(visible_nearby(visible)), own.scale_at(visible_nearby(visible))
    np.testing.assert_allclose(share[2, :, 0], np.repeat([[0], [1]], 60, axis=1))
    np.testing.assert_allclose(scale[2], 3, rtol=1e-5)
    beside, far = scale[4, 0, 0, 12], scale[4, 0, 0, 50]
    assert 1 < beside < 2 < far
    assert far == pytest.approx(3)
    assert share[4, 1, 0, 12] < share[4, 1, 0, 50] <= 1


@pytest.fixture(scope="module")
def series() -> TileSeries:
    """A simulated tile of 24×24 pixels that is often clear."""
    config = SimulationConfig(
        height=24, width=24, days=400, cloudiness=0.2, cloudiness_spread=0, mask_errors=0, orbit_overlap=True
    )
    return simulate_tile(config, 5, 0)


def pixels_model(run: RunConfig, *, wrong_by: float) -> Model:
    """A network that begins at kriging, and one that adds a constant to it."""
    torch.manual_seed(0)
    denoiser = build_denoiser(run.model)
    assert isinstance(denoiser, PixelDenoiser)
    bands = len(run.model.bands)
    with torch.no_grad():
        for member in denoiser.members:
            member.head.weight.zero_()
            if wrong_by:
                member.head.bias[8 * bands : 9 * bands] = 10  # the gate, open
                member.head.bias[9 * bands : 10 * bands] = float(np.arctanh(wrong_by))
    return Model(denoiser.eval(), run, Normalisation(("VV", "VH"), (-11, -18), (3, 3)), {})


@pytest.mark.slow
def test_a_model_that_is_wrong_on_a_series_does_no_harm_to_it(pixels_run, series):
    assert series.clouds is not None
    frames = np.flatnonzero((series.clouds == 0).all(axis=(1, 2)))
    hidden = np.zeros((len(frames), 24, 24), bool)
    hidden[5::6] = True
    truth = stored_to_published_scale(series.optical.values[frames])
    days = days_since_origin(series.optical.dates[frames])

    def error(filled: np.ndarray) -> float:
        return float(np.square(filled - truth)[5::6].mean())

    by_line = error(baseline("linear", truth, hidden, days))
    wrong = pixels_model(pixels_run, wrong_by=0.9)
    blindly, tempered = (
        reconstruct_with_deviation(wrong, series, frames, hidden, SamplingOptions(calibrate=calibrate))
        for calibrate in (False, True)
    )
    assert error(blindly.values) > 10 * by_line
    assert error(tempered.values) < 2 * by_line
    assert blindly.calibration is None
    assert tempered.calibration is not None
    assert tempered.calibration.share[0].mean() < 0.2
    # Of one that is right it is little that changes.
    right = pixels_model(pixels_run, wrong_by=0)
    values = [
        reconstruct(right, series, frames, hidden, SamplingOptions(calibrate=calibrate)) for calibrate in (False, True)
    ]
    assert error(values[1]) < 1.05 * error(values[0])


@pytest.mark.slow
def test_the_result_says_what_was_found(pixels_run, series):
    wrong = pixels_model(pixels_run, wrong_by=0.9)
    options = SamplingOptions(mask_dilation=0)
    filled = fill_gaps(wrong, series, options)
    assert filled.calibration is not None
    said = provenance(wrong, "wrong", options, filled)
    share, widths = said["MODEL_SHARE_HIDDEN"].split(), [float(said[f"INTERVAL_{level}"]) for level in (50, 80, 95)]
    assert share[::2] == list(filled.series.optical.bands)
    assert np.mean(list(map(float, share[1::2]))) < 0.2
    assert widths == sorted(widths)
    assert widths[1] == pytest.approx(1.2816, abs=1e-3)
    assert "INTERVAL_50" not in provenance(wrong, "wrong", options, filled._replace(calibration=None))
    right = pixels_model(pixels_run, wrong_by=0)  # kriging, near linear interpolation
    kept = [float(said["LINEAR_KEPT"]), fill_gaps(right, series, options).linear_share]
    assert 0 <= kept[0] < 0.1 < kept[1] <= 1
    # In several steps the network is asked for samples, of which no mean is taken.
    sampled = fill_gaps(wrong, series, SamplingOptions(steps=3))
    assert sampled.calibration is None
    assert sampled.linear_share is None


def test_chosen_pixels_are_filled_as_in_the_whole_window_and_alone_as_in_a_batch(pixels_run, series):
    model, options = pixels_model(pixels_run, wrong_by=0.3), SamplingOptions()
    frames = np.arange(12)
    tile, place, cpu = DecodedTile(series), SpatialTile(0, 0, 24, 24), torch.device("cpu")
    several = np.random.default_rng(1).random((2, 12, 24, 24)) < 0.3
    windows = [WindowMaker(model, tile, place, frames, gaps, 0, cpu)(0, 8) for gaps in several]
    pixels = np.array([0, 5, 23, 24, 300, 575])
    for window, whole in zip(windows, (sample_windows(model, [window], options)[0] for window in windows), strict=True):
        (few,) = sample_windows(model, [replace(window, pixels=pixels)], options)
        assert few.shape == (*whole.shape[:2], 1, 6)
        np.testing.assert_allclose(few[:, :, 0], whole.reshape(*whole.shape[:2], -1)[..., pixels], atol=1e-5)
    together = sample_windows(model, [replace(window, pixels=pixels) for window in windows], options)
    for window, few in zip(windows, together, strict=True):
        (alone,) = sample_windows(model, [replace(window, pixels=pixels)], options)
        np.testing.assert_allclose(few, alone, atol=1e-5)

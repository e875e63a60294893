"""Errors frame by frame: what they say of a method, and how sure that is."""

import csv
import io
import math

import numpy as np
import pytest

from restore_dit.evaluation.frames import FrameErrors, compare, coverage, error_sums, frames_csv


def frame(tile: str, series: int, date: str, missing: int = 100, **psnr: float) -> FrameErrors:
    """A frame of which each method has this PSNR."""
    squared = {method: missing * 10 ** (-value / 10) for method, value in psnr.items()}
    absolute = dict.fromkeys(psnr, missing * 0.01)
    return FrameErrors(tile, series, date, missing, 0.5, squared, absolute)


def test_sums_over_pixels_averaged_over_bands():
    target = np.zeros((2, 2, 1, 3), np.float32)
    prediction = target.copy()
    prediction[0, :, 0, 0] = [0.1, 0.3]
    prediction[1] = 0.5
    pixels = np.array([[[True, True, False]], [[False, False, True]]])
    squared, absolute = error_sums(target, prediction, pixels)
    np.testing.assert_allclose(squared, [0.05, 0.25], rtol=1e-6)
    np.testing.assert_allclose(absolute, [0.2, 0.5], rtol=1e-6)


def test_frames_below_linear_are_counted_beyond_a_tenth_of_a_decibel():
    frames = [
        frame("a", 0, "2019-01-01", linear=25, model=24.95),
        frame("a", 0, "2019-01-02", linear=25, model=24.8),
        frame("a", 0, "2019-01-03", linear=25, model=27),
        frame("a", 0, "2019-01-04", linear=20, model=17.5),
    ]
    found = compare(frames, {"linear": 23.0, "model": 22.5}, "linear", np.random.default_rng(0))
    assert found["model"].below_linear == 0.5
    assert found["model"].worst_frame == pytest.approx(-2.5)
    assert found["model"].gain == -0.5
    assert (found["linear"].below_linear, found["linear"].worst_frame, found["linear"].gain_interval) == (0, 0, (0, 0))


def test_coverage_counts_pixels_and_tells_hidden_frames_from_others():
    def seen(missing: int, visible: float, within: dict[str, tuple[float, ...]]) -> FrameErrors:
        return FrameErrors("a", 0, "2019-01-01", missing, visible, {}, {}, within)

    frames = [seen(300, 0, {"model": (0.4, 0.8)}), seen(100, 0, {"model": (0.8, 1)}), seen(100, 0.5, {"model": (0, 1)})]
    found = coverage(frames)
    assert set(found) == {"model"}
    assert found["model"]["missing"].shares == pytest.approx((0.4, 0.88))
    assert found["model"]["hidden_frames"].shares == pytest.approx((0.5, 0.85))
    assert found["model"]["partial_frames"].shares == pytest.approx((0, 1))
    assert found["model"]["partial_frames"].errors is None
    assert set(coverage(frames[:2])["model"]) == {"missing", "hidden_frames"}
    assert coverage([seen(10, 0, {})]) == coverage([]) == {}


def test_the_standard_error_of_coverage_is_that_of_a_mean_over_frames():
    """Of equally large frames, it is the deviation over the root of their number."""
    within = np.random.default_rng(4).random((12, 2))
    frames = [FrameErrors("a", 0, "2019-01-01", 50, 0, {}, {}, {"model": tuple(one)}) for one in within]
    errors = coverage(frames)["model"]["hidden_frames"].errors
    assert errors == pytest.approx(within.std(axis=0, ddof=1) / math.sqrt(12))


def test_a_constant_difference_is_certain_however_the_frames_vary():
    random = np.random.default_rng(1)
    frames = [
        frame(tile, number, f"2019-01-{number + 1:02}", linear=level, model=level + 1)
        for tile in "abc"
        for number, level in enumerate(random.normal(25, 3, 5))
    ]
    found = compare(frames, {"linear": 25.0, "model": 26.0}, "linear", random)["model"]
    assert found.gain_interval == pytest.approx((1, 1))
    assert found.interval[1] - found.interval[0] > 1


def test_the_interval_of_single_frames_is_that_of_their_mean():
    """Of one tile, each frame a series of its own: a mean's interval is 1.96 standard errors wide on either side."""
    random = np.random.default_rng(2)
    levels = random.normal(25, 2, 200)
    frames = [frame("a", number, str(number), linear=level) for number, level in enumerate(levels)]
    low, high = compare(frames, {"linear": float(levels.mean())}, "linear", random)["linear"].interval
    expected = 1.96 * levels.std() / math.sqrt(200)
    assert low == pytest.approx(levels.mean() - expected, abs=0.15 * expected)
    assert high == pytest.approx(levels.mean() + expected, abs=0.15 * expected)


def test_a_series_is_pooled_from_the_frames_drawn():
    """Two frames, 20 and 30 dB with one pixel each: a resample holds one of them, the other, or both."""
    frames = [frame("a", 0, "1", 1, linear=20), frame("a", 0, "2", 1, linear=30)]
    pooled = -10 * math.log10((0.01 + 0.001) / 2)
    low, high = compare(frames, {"linear": pooled}, "linear", np.random.default_rng(3))["linear"].interval
    assert (low, high) == pytest.approx((20, 30))


def test_frames_of_one_tile_say_little_of_others():
    random = np.random.default_rng(4)
    frames = [frame(tile, 0, str(day), linear=level) for tile, level in (("a", 20), ("b", 30)) for day in range(50)]
    low, high = compare(frames, {"linear": 25.0}, "linear", random)["linear"].interval
    assert (low, high) == pytest.approx((20, 30))


def test_one_frame_has_no_interval():
    found = compare([frame("a", 0, "1", linear=20)], {"linear": 20.0}, "linear", np.random.default_rng(5))["linear"]
    assert found.interval is found.gain_interval is None


def test_equal_seeds_give_equal_intervals():
    frames = [frame("a", 0, str(day), linear=20 + day) for day in range(9)]
    first, again = (compare(frames, {"linear": 24.0}, "linear", np.random.default_rng(6)) for _ in range(2))
    assert first == again


def test_csv_has_a_line_for_each_frame_and_method():
    lines = list(csv.DictReader(io.StringIO(frames_csv([frame("a", 0, "2019-01-01", 50, linear=20, model=30)]))))
    assert [line["method"] for line in lines] == ["linear", "model"]
    assert lines[1]["tile"] == "a"
    assert lines[1]["date"] == "2019-01-01"
    numbers = {name: float(lines[1][name]) for name in list(lines[1])[3:]}
    assert numbers == pytest.approx(
        {"missing_pixels": 50, "visible_share": 0.5, "squared_error_sum": 0.05, "psnr": 30, "mae": 0.01}
    )

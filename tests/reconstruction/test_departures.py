"""Linear interpolation is kept where the network hardly departs from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_dit.reconstruction.calibration import SeriesCalibration
from restore_dit.reconstruction.departures import departures, interpolate, weight_of, weights_around
from restore_dit.reconstruction.reconstruct import blend_with_linear
from restore_dit.reconstruction.tiling import SpatialTile

DEVIATION = 0.02
FRAMES, BANDS, SIDE = 7, 3, 24
QUIET, MOVED, PARTLY = 1, 3, 5


@given(st.floats(0, 2.0**100, width=32), st.floats(0, 2.0**100, width=32))
def test_the_weight_rises_from_nothing_to_all_of_the_answer(one: float, other: float):
    less, more = weight_of(np.array(sorted([one, other]), np.float32))
    assert 0 <= less <= more <= 1
    assert weight_of(np.zeros(1, np.float32)) == 0
    assert weight_of(np.full(1, np.inf, np.float32)) == 1


@given(st.integers(2, 200), st.floats(0.125, 8, width=32), st.integers(0, 99))
def test_departures_do_not_depend_on_units(bands: int, factor: float, seed: int):
    random = np.random.default_rng(seed)
    answer, linear = random.random((2, bands, 9), np.float32)
    deviation = random.uniform(0.1, 1, (bands, 9)).astype(np.float32)
    found = departures(answer, deviation, linear, axis=0)
    assert found.shape == (9,)
    np.testing.assert_allclose(departures(factor * answer, factor * deviation, factor * linear, 0), found, rtol=1e-3)


def test_weights_follow_the_hidden_pixels_around():
    departure, hidden = np.zeros((3, 20, 160), np.float32), np.ones((3, 20, 160), bool)
    departure[0] = 0.2
    departure[1, :, :80] = 1
    departure[2, :, :80], hidden[2, :, :80] = np.nan, False
    found = weights_around(departure, hidden)
    np.testing.assert_allclose(found[0], weight_of(np.float32([0.2]))[0], rtol=1e-4)
    assert (found[1, :, 10] > 0.99).all()
    assert (found[1, :, 150] < 0.01).all()
    assert (np.abs(np.diff(found[1], axis=1)) < 0.2).all(), "no edge"
    assert (found[2, :, 80:] == 0).all(), "what is visible does not count"


class Series:
    """A series that changes linearly, an answer that departs from it, and pixels that are hidden."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.days = np.arange(FRAMES) * 5.0
        slope, start = random.uniform(-0.01, 0.01, (2, 1, BANDS, SIDE, SIDE)).astype(np.float32)
        self.truth = 0.5 + start + slope * np.arange(FRAMES, dtype=np.float32)[:, None, None, None]
        self.hidden = np.zeros((FRAMES, SIDE, SIDE), bool)
        self.hidden[[QUIET, MOVED]] = True
        self.hidden[PARTLY, :, 12:] = True
        self.hidden[:, 0, 0] = True  # on no date: nothing to interpolate from
        self.answer = self.truth.copy()
        self.answer[QUIET] += 0.1 * DEVIATION
        self.answer[MOVED] += 3 * DEVIATION
        self.answer[PARTLY] -= 3 * DEVIATION
        self.deviation = np.full_like(self.answer, DEVIATION)

    def blended(self, calibration: Any = None, side: int = SIDE) -> tuple[np.ndarray, np.ndarray, float]:
        """Answer and deviation after blending, in strips of `side` rows, and the share of interpolation."""
        values, deviation = self.answer.copy(), self.deviation.copy()
        strips = [SpatialTile(row, 0, side, SIDE) for row in range(0, SIDE, side)]

        def linear(strip: SpatialTile, shown: np.ndarray) -> np.ndarray:
            observed = np.where(self.hidden[:, None], np.float32(9), self.truth)[:, :, strip.rows]
            return interpolate(observed, shown, self.days)

        share = blend_with_linear(values, deviation, calibration, self.hidden, linear, strips)
        return values, deviation, share


def test_quiet_dates_are_interpolated_and_others_stay_the_networks():
    series = Series()
    values, deviation, share = series.blended()
    known = series.hidden[QUIET].copy()
    known[0, 0] = False
    np.testing.assert_allclose(values[QUIET][:, known], series.truth[QUIET][:, known], atol=1e-4)
    np.testing.assert_allclose(values[MOVED], series.answer[MOVED], atol=1e-4)
    np.testing.assert_allclose(values[PARTLY], series.answer[PARTLY], atol=1e-4)
    np.testing.assert_array_equal(values[[0, 2, 4, 6]], series.answer[[0, 2, 4, 6]])
    np.testing.assert_array_equal(values[:, :, 0, 0], series.answer[:, :, 0, 0])
    np.testing.assert_array_equal(deviation, series.deviation)
    assert share == pytest.approx((SIDE**2 - 1) / (2.5 * SIDE**2 - 2), abs=1e-3), "all of one date of two and a half"


def test_a_calibration_comes_on_top():
    series = Series()
    half = SeriesCalibration((9, 9), 1.0, np.full((2, BANDS), 0.5), np.array([3.0, 3.0]), np.ones(3), np.eye(BANDS))
    values, deviation, _ = series.blended(half)
    middle = (series.answer + series.truth) / 2
    np.testing.assert_allclose(values[MOVED][:, 1:], middle[MOVED][:, 1:], atol=1e-4)
    np.testing.assert_allclose(deviation, 3 * DEVIATION, rtol=1e-5)
    assert (values[QUIET] - series.truth[QUIET])[:, 1:] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("side", [4, 12])
def test_strips_leave_no_edges(side: int):
    series = Series()
    for whole, parts in zip(series.blended(), series.blended(side=side), strict=True):
        np.testing.assert_array_equal(whole, parts)


def test_interpolation_never_reads_what_is_hidden():
    series = Series()
    given = np.where(series.hidden[:, None], np.float32(np.nan), series.truth)
    found = interpolate(given, ~series.hidden, series.days)
    np.testing.assert_allclose(found[1:-1, :, 1:], series.truth[1:-1, :, 1:], atol=1e-5)

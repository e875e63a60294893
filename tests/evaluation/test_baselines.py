"""Baselines: what must hold for any series, whatever its gaps and dates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_dit.evaluation.baselines import BASELINES, fill, harmonic, whittaker

EVERY = pytest.mark.parametrize("name", list(BASELINES))


@st.composite
def gapped_series(draw):
    """(values, gap_mask, days): values between 0 and 1, any gaps, unevenly spaced dates."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frames = draw(st.integers(1, 9))
    days = np.cumsum(generator.integers(1, 60, frames)).astype(np.float64)
    values = generator.random((frames, 2, 3, 4))
    return values, generator.random((frames, 3, 4)) < draw(st.floats(0, 1)), days


@EVERY
@given(series=gapped_series())
@settings(max_examples=40)
def test_observed_pixels_are_untouched_and_gaps_never_read(name, series):
    values, gap_mask, days = series
    filled = fill(name, values, gap_mask, days)
    seen = np.broadcast_to(~gap_mask[:, None], values.shape)
    assert (filled[seen] == values[seen]).all()
    assert np.isfinite(filled).all()
    hidden = np.where(gap_mask[:, None], np.nan, values)
    np.testing.assert_array_equal(fill(name, hidden, gap_mask, days), filled)


@EVERY
@given(series=gapped_series(), level=st.floats(-2, 2))
@settings(max_examples=40)
def test_constant_series_stays_constant(name, series, level):
    values, gap_mask, days = series
    gap_mask[0, 0, 0] = False
    np.testing.assert_allclose(fill(name, np.full_like(values, level), gap_mask, days), level, atol=1e-9)


@EVERY
@given(series=gapped_series(), shift=st.floats(-1, 1), factor=st.floats(0.1, 10))
@settings(max_examples=20)
def test_every_baseline_follows_shift_and_scale(name, series, shift, factor):
    values, gap_mask, days = series
    gap_mask[0, 0, 0] = False
    np.testing.assert_allclose(
        fill(name, factor * values + shift, gap_mask, days),
        factor * fill(name, values, gap_mask, days) + shift,
        atol=1e-8,
    )


@given(series=gapped_series(), slope=st.floats(-1, 1))
@settings(max_examples=40)
def test_linear_reproduces_a_line_between_the_ends(series, slope):
    values, gap_mask, days = series
    line = values[:1] + slope * days[:, None, None, None]
    gap_mask[[0, -1]] = False
    np.testing.assert_allclose(fill("linear", line, gap_mask, days), line, atol=1e-9)


@given(series=gapped_series())
@settings(max_examples=40)
def test_closest_is_last_or_next(series):
    filled = {name: fill(name, *series) for name in ("closest", "last", "next", "linear")}
    assert ((filled["closest"] == filled["last"]) | (filled["closest"] == filled["next"])).all()
    low, high = np.minimum(filled["last"], filled["next"]), np.maximum(filled["last"], filled["next"])
    assert ((filled["linear"] >= low - 1e-12) & (filled["linear"] <= high + 1e-12)).all()


def one_pixel(name, observations, days):
    """A pixel's filled series; None is a gap."""
    gap_mask = np.array([value is None for value in observations])[:, None, None]
    values = np.array([np.nan if value is None else value for value in observations])[:, None, None, None]
    return fill(name, values, gap_mask, np.array(days)).ravel()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("last", [1, 1, 1, 1, 3, 3]),
        ("next", [1, 1, 3, 3, 3, 3]),
        ("closest", [1, 1, 1, 3, 3, 3]),  # day 20 lies as far from day 10 as from day 30: the earlier
        ("linear", [1, 1, 2, 2.5, 3, 3]),
    ],
)
def test_known_gaps(name, expected):
    days = [0, 10, 20, 25, 30, 70]
    assert one_pixel(name, [None, 1.0, None, None, 3.0, None], days) == pytest.approx(expected)


@EVERY
def test_pixel_never_observed_gets_the_mean_of_its_band(name):
    values = np.random.default_rng(0).random((4, 2, 3, 3), dtype=np.float32)
    gap_mask = np.zeros((4, 3, 3), bool)
    gap_mask[:, 1, 1] = True
    filled = fill(name, values, gap_mask, np.arange(4) * 10.0)
    seen = values[:, :, ~gap_mask[0]]
    np.testing.assert_allclose(filled[:, :, 1, 1], np.tile(seen.mean(axis=(0, 2)), (4, 1)), rtol=1e-6)
    assert filled.dtype == np.float32


@EVERY
def test_tile_without_any_observation_is_finite(name):
    gap_mask = np.ones((3, 2, 2), bool)
    assert (fill(name, np.full((3, 1, 2, 2), np.nan), gap_mask, np.arange(3.0)) == 0).all()


def test_harmonic_recovers_a_season():
    days = np.arange(0, 365, 12.0)
    season = 0.4 + 0.2 * np.cos(2 * np.pi * (days - 200) / 365.25)
    gap_mask = np.random.default_rng(0).random((len(days), 5, 5)) < 0.5
    values = np.broadcast_to(season[:, None, None, None], (len(days), 1, 5, 5))
    exact = harmonic(values, ~gap_mask, days, ridge=1e-9)
    np.testing.assert_allclose(exact, values, atol=1e-6)
    assert np.abs(fill("harmonic", values, gap_mask, days) - values).mean() < 0.02 < values.std()


def test_whittaker_is_the_dense_solution():
    """Against the same problem written as one stacked least squares, for one pixel."""
    generator = np.random.default_rng(1)
    days = np.cumsum(generator.integers(2, 30, 8)).astype(np.float64)
    values, seen = generator.random(8), np.array([0, 1, 1, 0, 0, 1, 1, 0], bool)
    slope = np.diff(np.eye(8), axis=0) * np.sqrt(3 / np.diff(days))[:, None]
    rows = np.concatenate([np.diag(seen * 1.0), slope])
    expected = np.linalg.lstsq(rows, np.concatenate([seen * values, np.zeros(7)]), rcond=None)[0]
    found = whittaker(values[:, None, None, None], seen[:, None, None], days, stiffness=3).ravel()
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_offset_is_the_frame_s_mean_departure_shrunk():
    """Four pixels, three of which the second frame shows 0.11 brighter than the other dates do."""
    values = np.full((3, 1, 2, 2), 0.2)
    values[1] += 0.11
    gap_mask = np.zeros((3, 2, 2), bool)
    gap_mask[1, 1, 1] = True
    days = np.array([0.0, 10.0, 20.0])
    assert fill("kriging", values, gap_mask, days)[1, 0, 1, 1] == pytest.approx(0.2)
    assert fill("kriging_offset", values, gap_mask, days)[1, 0, 1, 1] == pytest.approx(0.2 + 0.11 * 3 / 11)


def test_a_pixel_that_one_date_alone_shows_says_nothing_of_its_frame():
    values = np.full((2, 1, 1, 4), 0.2)
    values[0, 0, 0, :2] = [0.9, 0.3]
    gap_mask = np.zeros((2, 1, 4), bool)
    gap_mask[1, 0, 0] = True
    gap_mask[0, 0, 2:] = True
    filled = fill("kriging_offset", values, gap_mask, np.array([0.0, 10.0]))
    np.testing.assert_allclose(filled[0, 0, 0, 2:], 0.2 + 0.1 * 1 / 9)


@given(series=gapped_series())
@settings(max_examples=20)
def test_a_wholly_hidden_frame_has_no_offset(series):
    values, gap_mask, days = series
    gap_mask[0] = True
    frames = [fill(name, values, gap_mask, days)[0] for name in ("kriging", "kriging_offset")]
    np.testing.assert_array_equal(*frames)


def test_unknown_name_is_refused():
    with pytest.raises(KeyError):
        fill("spline", np.zeros((1, 1, 1, 1)), np.zeros((1, 1, 1), bool), np.zeros(1))

"""What distinguishes the dates of one orbit from those of another is found, and filled dates have it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation import simulate_tile
from restore_dit.reconstruction import orbits
from restore_dit.reconstruction.gap_free import fill_gaps, provenance
from restore_dit.reconstruction.orbits import OrbitOffsets, estimate_orbit_offsets
from restore_dit.reconstruction.reconstruct import reconstruct_with_deviation
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import NO_DATA, TileSeries, days_since_origin
from tests.reconstruction.test_calibration import pixels_model

STEP = np.array([120, -60, 200, 40], np.int16)


def estimated(values: np.ndarray, visible: np.ndarray, days: np.ndarray) -> OrbitOffsets | None:
    """From every other frame of a longer series, to see that only the given frames count."""
    longer = np.repeat(values, 2, axis=0)
    longer[1::2] = 7777
    return estimate_orbit_offsets(longer, np.arange(0, len(longer), 2), visible, days)


def smooth(random: np.random.Generator, days: np.ndarray, pixels: int = 64) -> np.ndarray:
    """Values [n, 4, 8, 8] that vary in time as the model of the estimate has it, different in each pixel."""
    covariance = np.exp(-np.abs(days[:, None] - days) / 60) + 0.1 * np.eye(len(days))
    drawn = np.linalg.cholesky(covariance) @ random.standard_normal((len(days), 4 * pixels))
    return np.round(2000 + 100 * drawn).astype(np.int16).reshape(len(days), 4, 8, 8)


def two_orbits(random: np.random.Generator, count: int = 60) -> np.ndarray:
    """Days, of which some are missing."""
    every = np.sort(np.concatenate([np.arange(1, 400, 5), np.arange(4, 400, 5)]))
    return np.sort(random.choice(every, count, replace=False)).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_the_difference_between_two_orbits_is_found(seed):
    random = np.random.default_rng(seed)
    days = two_orbits(random)
    values, visible = smooth(random, days), random.random((60, 8, 8)) < 0.7
    second = days % 5 == 4
    values[second] += STEP[:, None, None]
    hidden = ~visible[:, None] & np.ones((1, 4, 1, 1), bool)
    found = estimated(np.where(hidden, NO_DATA, values), visible, days)
    assert found is not None
    shift = found.of_dates()
    difference = shift[second][0].astype(int) - shift[~second][0]
    np.testing.assert_allclose(difference, STEP, atol=35, rtol=0.25)
    np.testing.assert_allclose(found.differences, np.abs(difference) / 10_000)
    later = estimated(np.where(hidden, NO_DATA, values), visible, days + 1461)
    assert later is not None
    np.testing.assert_array_equal(later.of_dates(), shift)
    # What is not visible has no part in it, and a date that is left out none in what is said without it.
    spoilt = values.copy()
    spoilt[7] = 9000
    without = estimated(spoilt, visible & (np.arange(60) != 7)[:, None, None], days)
    assert without is not None
    assert np.abs(without.of_dates().astype(int) - found.of_dates(7)).max() <= 3


@pytest.mark.parametrize("seed", range(5))
def test_where_orbits_do_not_differ_nothing_is_changed(seed):
    random = np.random.default_rng(seed)
    days = two_orbits(random)
    assert estimated(smooth(random, days), np.ones((60, 8, 8), bool), days) is None


def test_one_orbit_and_too_few_dates_have_no_offsets():
    random = np.random.default_rng(0)
    days = np.arange(60, dtype=np.float32) * 5
    values = smooth(random, days)
    values[::2] += STEP[:, None, None]
    assert estimated(values, np.ones((60, 8, 8), bool), days) is None
    few = np.array([0, 1, 5, 6, 10], np.float32)
    assert estimated(values[:5], np.ones((5, 8, 8), bool), few) is None
    assert estimated(values, np.zeros((60, 8, 8), bool), two_orbits(random)) is None


@given(st.integers(4, 12), st.integers(2, 3), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_leaving_a_date_out_equals_not_having_it(count, groups, seed):
    random = np.random.default_rng(seed)
    member = np.eye(groups)[random.integers(0, groups, count)]
    covariance = np.exp(-np.abs(np.subtract.outer(*[np.arange(count)] * 2)) / 3) + 0.1 * np.eye(count)
    covariance += 0.05 * member @ member.T
    values = random.standard_normal((count, 2))
    _, left_out = orbits._effects(values, member, np.linalg.inv(covariance))
    for date in range(count):
        rest = np.arange(count) != date
        expected, _ = orbits._effects(values[rest], member[rest], np.linalg.inv(covariance[np.ix_(rest, rest)]))
        np.testing.assert_allclose(left_out[date], expected, atol=1e-8)


@pytest.fixture(scope="module")
def seen_from_two_sides() -> TileSeries:
    """A simulated tile of two orbits, one of which sees everything brighter than the simulator lets it."""
    config = SimulationConfig(
        height=24, width=24, days=400, cloudiness=0.2, cloudiness_spread=0, mask_errors=0, orbit_overlap=True
    )
    series = simulate_tile(config, 5, 0)
    days = days_since_origin(series.optical.dates).astype(int)
    values = series.optical.values
    values[days % 5 == days[0] % 5] += np.int16(300)
    return series


@pytest.mark.slow
def test_a_hidden_date_is_filled_as_its_own_orbit_sees_it(pixels_run, seen_from_two_sides):
    series, model = seen_from_two_sides, pixels_model(pixels_run, wrong_by=0)
    assert series.clouds is not None
    frames = np.flatnonzero((series.clouds == 0).all(axis=(1, 2)))
    hidden = np.zeros((len(frames), 24, 24), bool)
    hidden[4::5] = True
    truth = series.optical.values[frames].clip(0, 8000) / np.float32(8000)
    errors, filled = [], None
    for level in (False, True):
        options = SamplingOptions(calibrate=True, orbit_offsets=level)
        filled = reconstruct_with_deviation(model, series, frames, hidden, options)
        assert (filled.orbits is not None) == level
        errors.append(np.square(filled.values - truth)[4::5].mean())
        np.testing.assert_allclose(filled.values[~hidden[:, 0, 0]], truth[~hidden[:, 0, 0]], atol=1e-6)
    assert errors[1] < 0.75 * errors[0]


def test_the_result_says_how_the_orbits_differ(pixels_run, seen_from_two_sides):
    model, options = pixels_model(pixels_run, wrong_by=0), SamplingOptions(mask_dilation=0)
    filled = fill_gaps(model, seen_from_two_sides, options)
    observed = ~filled.gap_mask
    before, after = (each.optical.values.swapaxes(0, 1) for each in (seen_from_two_sides, filled.series))
    np.testing.assert_array_equal(before[:, observed], after[:, observed])
    said = provenance(model, "model", options, filled)
    assert said["ORBITS"] == "2"
    words = said["ORBIT_DIFFERENCES"].split()
    assert words[::2] == list(filled.series.optical.bands)
    assert 0.01 < np.mean(list(map(float, words[1::2]))) < 0.05
    assert "ORBITS" not in provenance(model, "model", options, filled._replace(orbits=None))

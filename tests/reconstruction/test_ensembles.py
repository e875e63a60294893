"""Ensembles of possible series."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from restore_dit.config import RunConfig
from restore_dit.reconstruction.ensembles import Marginals, band_errors, ensemble
from restore_dit.reconstruction.gap_free import GapFree, fill_gaps
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import S2_BANDS, SAMPLES, UNCERTAINTY, Acquisitions, TileSeries
from tests.messages import refused
from tests.reconstruction.test_calibration import pixels_model


def drawn(options: SamplingOptions, mean: float = 0.4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ensemble of a series of 24 dates with a constant mean and standard deviation, its gaps, and what was seen."""
    random = np.random.default_rng(0)
    gaps = random.random((24, 6, 8)) < 0.7
    seen = random.integers(-300, 9000, (24, 10, 6, 8), dtype=np.int16)
    optical = Acquisitions(seen, np.datetime64("2019-01-01") + 30 * np.arange(24), S2_BANDS)
    constant = np.full(seen.shape, mean, np.float32)
    marginals = Marginals(constant, np.full_like(constant, 0.05), band_errors(None, S2_BANDS))
    return ensemble(marginals, gaps, optical, None, options, lambda options: pytest.fail("filled again")), gaps, seen


def test_members_scatter_around_the_mean_by_its_deviation():
    """40 members on 24 dates: half of the variance of a value belongs to its whole frame, so the standard error of the
    mean over all is 3 % of the deviation, and that of the variance 5 %."""
    members, gaps, _ = drawn(SamplingOptions(samples=40))
    filled = np.moveaxis(members, 2, -1)[np.broadcast_to(gaps[:, None], (24, 40, 6, 8))] / 8000
    assert filled.mean() == pytest.approx(0.4, abs=0.15 * 0.05)
    assert filled.std() == pytest.approx(0.05, rel=0.1)
    within = (np.abs(filled - 0.4) < 0.05 * norm.ppf(0.9)).mean()
    assert within == pytest.approx(0.8, abs=0.04)


def test_what_was_observed_is_the_same_in_all_members():
    members, gaps, seen = drawn(SamplingOptions(samples=3))
    for member in range(3):
        np.testing.assert_array_equal(members[:, member].swapaxes(0, 1)[:, ~gaps], seen.swapaxes(0, 1)[:, ~gaps])


def test_members_depend_on_the_seed_and_not_on_their_number_or_the_area():
    first, *_ = drawn(SamplingOptions(samples=2))
    more, *_ = drawn(SamplingOptions(samples=4))
    np.testing.assert_array_equal(first, more[:, :2])
    other, gaps, _ = drawn(SamplingOptions(samples=2, seed=1))
    hidden = np.broadcast_to(gaps[:, None, None], other.shape)
    assert (other != first)[hidden].mean() > 0.9
    random = np.random.default_rng(1)
    gaps = np.ones((2, 130, 70), bool)
    optical = Acquisitions(
        np.zeros((2, 3, 130, 70), np.int16), np.array(["2020-01-01", "2020-01-06"], "M8[D]"), S2_BANDS[:3]
    )
    marginals = Marginals(*random.random((2, 2, 3, 130, 70), np.float32), band_errors(None, S2_BANDS[:3]))

    def of_rows(rows: slice) -> np.ndarray:
        part = Marginals(marginals.mean[:, :, rows], marginals.deviation[:, :, rows], marginals.bands)
        optical_part = replace(optical, values=optical.values[:, :, rows])
        return ensemble(part, gaps[:, rows], optical_part, None, SamplingOptions(samples=1), lambda options: None)

    whole, upper = of_rows(slice(None)), of_rows(slice(100))
    assert np.abs(whole[:, :, :, :100].astype(int) - upper).max() <= 1  # strips of rows are multiplied differently


def test_dark_pixels_stay_within_what_is_possible():
    members, gaps, _ = drawn(SamplingOptions(samples=2), mean=0.01)
    filled = np.moveaxis(members, 2, -1)[np.broadcast_to(gaps[:, None], (24, 2, 6, 8))]
    assert filled.min() == 0
    assert filled.max() < 0.4 * 8000


@pytest.fixture(scope="module")
def series(small_store) -> TileSeries:
    return small_store.load(small_store.tile_ids[0]).series()


@pytest.fixture(scope="module")
def filled(pixels_run: RunConfig, series: TileSeries) -> GapFree:
    """What a network of pixels fills, calibrated on the series, with an ensemble."""
    return fill_gaps(pixels_model(pixels_run, wrong_by=0), series, SamplingOptions(samples=24), indices=("ndvi",))


@pytest.mark.slow
def test_members_agree_with_the_calibrated_uncertainty(filled: GapFree, series: TileSeries):
    assert filled.calibration is not None
    members, deviation = filled.series.layers[SAMPLES], filled.series.layers[UNCERTAINTY].astype(float)
    gaps = np.broadcast_to(filled.gap_mask[:, None], deviation.shape)
    spread = members.std(axis=1, ddof=1)
    assert np.sqrt((spread**2)[gaps].mean() / (deviation**2)[gaps].mean()) == pytest.approx(1, abs=0.12)
    departures = members.mean(axis=1) - filled.series.optical.values
    assert (departures[gaps] / deviation[gaps]).mean() == pytest.approx(0, abs=0.1)
    for member in range(24):
        np.testing.assert_array_equal(members[:, member][~gaps], filled.series.optical.values[~gaps])


@pytest.mark.slow
def test_dates_that_are_asked_for_have_the_same_members(filled: GapFree, series: TileSeries, pixels_run: RunConfig):
    dates = series.optical.dates[[4, 9]].astype("datetime64[D]")
    model = pixels_model(pixels_run, wrong_by=0)
    asked = fill_gaps(model, series, SamplingOptions(samples=2), dates=dates)
    np.testing.assert_array_equal(asked.series.layers[SAMPLES], filled.series.layers[SAMPLES][[4, 9], :2])


def test_a_network_without_uncertainty_fills_each_member_anew(small_model: Model, series: TileSeries):
    options = SamplingOptions(samples=2, seed=4)
    filled = fill_gaps(small_model, series, options)
    plain = fill_gaps(small_model, series, SamplingOptions(seed=4))
    np.testing.assert_array_equal(filled.series.optical.values, plain.series.optical.values)
    first, second = np.moveaxis(filled.series.layers[SAMPLES], 1, 0)
    gaps = np.broadcast_to(filled.gap_mask[:, None], first.shape)
    assert (first != second)[gaps].mean() > 0.5
    np.testing.assert_array_equal(first[~gaps], second[~gaps])


def test_a_mean_that_is_random_has_no_ensemble(pixels_run: RunConfig, series: TileSeries):
    model = pixels_model(pixels_run, wrong_by=0)
    with refused("samples", "steps=4"):
        fill_gaps(model, series, SamplingOptions(samples=2, steps=4))
    with refused("samples", "-1"):
        SamplingOptions(samples=-1)

"""Dates that were not acquired are filled as if they were hidden, and every value says what it rests on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.exchange import netcdf
from restore_dit.data.simulation import simulate_tile
from restore_dit.errors import UserError
from restore_dit.reconstruction.dates import HORIZON, at_dates, dates_wanted, provenance_of_pixels, with_dates
from restore_dit.reconstruction.gap_free import fill_gaps
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import CLOUD_NO_DATA, NO_DATA, PROVENANCE, UNCERTAINTY, Acquisitions, Provenance, TileSeries
from tests.reconstruction.test_calibration import pixels_model


def days(*texts: str) -> np.ndarray:
    return np.array(texts, "datetime64[D]")


ACQUIRED = days("2018-11-03", "2018-11-08", "2019-02-26")


def test_regular_dates_are_those_of_the_neighbours_too():
    ten = dates_wanted(ACQUIRED, every=10)
    assert ten is not None
    assert (ten[0], ten[-1]) == tuple(days("2018-11-07", "2019-02-25"))
    assert (np.diff(ten) == np.timedelta64(10, "D")).all()
    np.testing.assert_array_equal(dates_wanted(ACQUIRED + 3, every="10"), ten)
    monthly = dates_wanted(ACQUIRED, every="month")
    np.testing.assert_array_equal(monthly, days("2018-11-15", "2018-12-15", "2019-01-15", "2019-02-15"))


def test_given_dates_are_sorted_and_may_lie_somewhat_outside():
    given_dates = ["2019-02-26T10:50:00", np.datetime64("2018-11-20"), str(ACQUIRED[0] - HORIZON)]
    found = dates_wanted(ACQUIRED, given_dates)
    np.testing.assert_array_equal(found, days(str(ACQUIRED[0] - HORIZON), "2018-11-20", "2019-02-26"))
    assert dates_wanted(ACQUIRED) is None
    assert dates_wanted(ACQUIRED, every="") is None


@pytest.mark.parametrize(
    ("dates", "every", "named"),
    [
        ("2019-03-01", None, "list"),
        (["2019-13-01"], None, "2019-13-01"),
        (["yesterday"], None, "yesterday"),
        (["2019"], None, "2019"),
        ([str(ACQUIRED[-1] + HORIZON + 1)], None, str(HORIZON)),
        ([str(ACQUIRED[0] - HORIZON - 1)], None, str(HORIZON)),
        (["2019-01-01", "2019-01-01"], None, "2019-01-01"),
        (["2019-01-01"], 10, "every"),
        ([], 0, "every=0"),
        ([], 367, "every=367"),
        ([], "week", "every=week"),
        ([], -5, "every=-5"),
    ],
)
def test_dates_that_make_no_sense_are_named(dates, every, named):
    with pytest.raises(UserError) as caught:
        dates_wanted(ACQUIRED, dates, every)
    assert named in str(caught.value)


def test_no_regular_date_within_a_short_series_is_an_error():
    with pytest.raises(UserError, match="dates"):
        dates_wanted(days("2019-03-02", "2019-03-04"), every="month")


@given(arrays(bool, (7, 2, 2)), st.lists(st.integers(1, 120), min_size=7, max_size=7))
@settings(max_examples=100, deadline=None)
def test_provenance_follows_from_the_observations(gaps, steps):
    dates = np.datetime64("2019-01-01") + np.cumsum(steps)
    found = provenance_of_pixels(gaps, dates)
    for row, column in np.ndindex(2, 2):
        observed = dates[~gaps[:, row, column]]
        for date, hidden, code in zip(dates, gaps[:, row, column], found[:, row, column], strict=True):
            distances = np.abs((observed - date).astype(int))
            if not hidden:
                expected = Provenance.OBSERVED
            elif len(observed) < 2 or distances.min() > 180:
                expected = Provenance.UNKNOWN
            elif not (observed.min() < date < observed.max()):
                expected = Provenance.EXTRAPOLATED
            else:
                expected = Provenance.FILLED
            assert code == expected


@pytest.fixture(scope="module")
def series() -> TileSeries:
    config = SimulationConfig(height=16, width=16, days=250, cloudiness=0.3, mask_errors=0, orbit_overlap=True)
    return simulate_tile(config, 5, 0)


def test_new_dates_have_no_data_and_the_others_are_as_before(series):
    new = series.optical.dates[3].astype("datetime64[D]") + 1
    longer = with_dates(series, np.array([new]))
    place = int(np.flatnonzero(longer.optical.dates == new)[0])
    assert (longer.optical.values[place] == NO_DATA).all()
    assert longer.clouds is not None
    assert (longer.clouds[place] == CLOUD_NO_DATA).all()
    back = at_dates(longer, series.optical.dates.astype("datetime64[D]"))
    np.testing.assert_array_equal(back.optical.values, series.optical.values)
    np.testing.assert_array_equal(back.clouds, series.clouds)
    assert at_dates(series, None) is series


@pytest.mark.slow
def test_a_date_that_was_not_acquired_is_filled_as_one_that_is_hidden(pixels_run, series):
    """Values, uncertainty and provenance."""
    model, options = pixels_model(pixels_run, wrong_by=0), SamplingOptions()
    assert series.clouds is not None
    for frame in (0, 20, len(series.optical) - 1):
        clouds = series.clouds.copy()
        clouds[frame] = 1
        hidden = fill_gaps(model, replace(series, clouds=clouds), options).series
        rest = np.arange(len(clouds)) != frame
        others = replace(series, optical=series.optical.select(rest), clouds=clouds[rest])
        date = series.optical.dates[frame, None].astype("datetime64[D]")
        asked = fill_gaps(model, others, options, dates=date)
        np.testing.assert_array_equal(asked.series.optical.dates, date)
        assert asked.gap_mask.all()
        np.testing.assert_array_equal(asked.series.optical.values[0], hidden.optical.values[frame])
        for layer in (UNCERTAINTY, PROVENANCE):
            np.testing.assert_array_equal(asked.series.layers[layer][0], hidden.layers[layer][frame])
        at_an_end = frame in (0, len(clouds) - 1)
        expected = Provenance.EXTRAPOLATED if at_an_end else Provenance.FILLED
        assert (asked.series.layers[PROVENANCE] == expected).mean() > 0.9


@pytest.mark.slow
def test_an_acquired_date_keeps_what_was_observed(pixels_run, series):
    model = pixels_model(pixels_run, wrong_by=0)
    whole = fill_gaps(model, series, SamplingOptions())
    chosen = np.array([4, 9])
    dates = series.optical.dates[chosen].astype("datetime64[D]")
    found = fill_gaps(model, series, SamplingOptions(), dates=dates)
    np.testing.assert_array_equal(found.series.optical.values, whole.series.optical.values[chosen])
    np.testing.assert_array_equal(found.gap_mask, whole.gap_mask[chosen])
    seen = ~found.gap_mask
    np.testing.assert_array_equal(
        found.series.optical.values.swapaxes(0, 1)[:, seen], series.optical.values[chosen].swapaxes(0, 1)[:, seen]
    )


def test_provenance_outlives_a_file(series):
    layer = np.random.default_rng(0).integers(0, 4, (len(series.optical), 16, 16), dtype=np.uint8)
    written = TileSeries("a", Acquisitions(series.optical.values, series.optical.dates, series.optical.bands),
                         georeference=series.georeference, layers={PROVENANCE: layer})  # fmt: skip
    read = netcdf.decode(netcdf.encode(written, layer > 0), "a")
    np.testing.assert_array_equal(read.layers[PROVENANCE], layer)

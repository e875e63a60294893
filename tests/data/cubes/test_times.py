"""Dates, however a file says them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from restore_dit.data.cubes.times import acquisition_times, repeated_apart
from tests.messages import refused


@pytest.mark.parametrize(
    "stored",
    [
        np.array(["2019-01-31T10:50:00", "2018-12-01"], "datetime64[ns]"),
        np.array(["2019-01-31T10:50:00Z", "2018-12-01T00:00:00+00:00"], object),
        np.array(["2019-01-31", "2018-12-01"]),
        np.array([b"20190131", b"20181201"], object),
        np.array([20190131, 20181201], np.int32),
    ],
)
def test_dates_texts_and_numbers_are_read(stored: NDArray[Any]) -> None:
    times = acquisition_times(stored, "file.nc", "time")
    assert times.astype("datetime64[D]").astype(str).tolist() == ["2019-01-31", "2018-12-01"]


@pytest.mark.parametrize(
    ("stored", "facts"),
    [
        (np.array([17000, 17005]), ["int64", "'17000'"]),
        (np.array([0.5]), ["float64", "'0.5'"]),
        (np.array(["winter"], object), ["object", "'winter'"]),
        (np.array([20191399]), ["time"]),
        (np.array(["2019-01-01", "NaT"], "datetime64[ns]"), ["1 of 2", "time"]),
    ],
)
def test_what_is_no_date_is_refused(stored: NDArray[Any], facts: list[str]) -> None:
    with refused("file.nc", *facts):
        acquisition_times(stored, "file.nc", "time")


def test_images_of_one_second_stay_apart_and_meet_their_counterparts() -> None:
    times = np.array(["2019-01-06T10", "2019-01-01T10", "2019-01-06T10"], "datetime64[s]")
    apart = repeated_apart(times)
    assert len(np.unique(apart)) == 3
    np.testing.assert_array_equal(apart.astype("datetime64[s]"), times)
    assert apart[0] == repeated_apart(times[:1])[0]

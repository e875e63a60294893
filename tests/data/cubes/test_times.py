"""Dates, however a file says them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray
from numpy.typing import NDArray

from restore_dit.data.cubes.times import acquisition_times, overpass_days, repeated_apart
from restore_dit.errors import UserError
from tests.messages import refused


def read(stored: NDArray[Any], **attributes: Any) -> NDArray[np.datetime64]:
    return acquisition_times(xarray.Dataset({"time": ("time", stored, attributes)}), "file.nc", "time")


@pytest.mark.parametrize(
    "stored",
    [
        np.array(["2019-01-31T10:50:00", "2018-12-01"], "datetime64[ns]"),
        np.array(["2019-01-31T10:50:00Z", "2018-12-01T00:00:00+00:00"], object),
        np.array(["2019-01-31", "2018-12-01"]),
        np.array([b"20190131", b"20181201"], object),
        np.array([20190131, 20181201], np.int32),
        np.array([20190131.0, 20181201.0]),
        np.array(["2019-01-31 23:58:20 UTC", "2018-12-01 00:00:00 GMT"]),
        np.array(["2019-02-01T01:30:00+02:00", "2018-12-01T14:00:00+13:00"]),
        np.array(["20190131105000", "20181201000000"]),
    ],
)
def test_dates_texts_and_numbers_are_read(stored: NDArray[Any]) -> None:
    times = read(stored)
    assert times.astype("datetime64[D]").astype(str).tolist() == ["2019-01-31", "2018-12-01"]


@pytest.mark.parametrize("digits", [14, 12])
def test_numbers_say_the_time_of_day(digits: int) -> None:
    numbers = np.array([int(text[:digits]) for text in ("20200229235820", "20201231100000")])
    assert read(numbers).astype(str).tolist() == [
        f"2020-02-29T23:58:{'20' if digits == 14 else '00'}",
        "2020-12-31T10:00:00",
    ]


def test_units_in_another_time_zone_lead_to_utc() -> None:
    times = read(np.array([789.0]), units="days since 2018-01-01 01:00:00 +02:00", calendar="standard")
    assert times.astype(str).tolist() == ["2020-02-28T23:00:00"]


@pytest.mark.parametrize("calendar", ["noleap", "julian", "360_day"])
def test_a_calendar_without_our_days_is_refused(calendar: str) -> None:
    with pytest.raises(UserError, match=r"file\.nc: time"):
        read(np.array([789.0]), units="days since 2018-01-01", calendar=calendar)


def test_a_fill_value_is_no_date() -> None:
    """-9999 days since 2018 would be 1990-08-16."""
    with pytest.raises(UserError, match="1 of 2"):
        read(np.array([365, -9999], np.int32), units="days since 2018-01-01", _FillValue=np.int32(-9999))


@pytest.mark.parametrize(
    ("stored", "attributes"),
    [
        (np.array([1583020700, 1609408800]), {}),
        (np.array([1583020700000, 1609408800000]), {}),
        (np.array([0.0, 5.0]), {"units": "days since 1858-11-17"}),
        (np.array([58000.0]), {"units": "days since 2000-01-01"}),
    ],
)
def test_what_no_satellite_can_have_seen_is_refused(stored: NDArray[Any], attributes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"file\.nc: time"):
        read(stored, **attributes)


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
        read(stored)


def test_images_of_one_second_stay_apart_and_meet_their_counterparts() -> None:
    times = np.array(["2019-01-06T10", "2019-01-01T10", "2019-01-06T10"], "datetime64[s]")
    apart = repeated_apart(times)
    assert len(np.unique(apart)) == 3
    np.testing.assert_array_equal(apart.astype("datetime64[s]"), times)
    assert apart[0] == repeated_apart(times[:1])[0]


def days(*times: str) -> list[str]:
    return overpass_days(np.array(times, "datetime64[us]")).astype(str).tolist()


def test_an_overpass_has_the_day_on_which_it_began() -> None:
    assert days("2021-06-02T00:00:05", "2021-06-01T23:59:58") == ["2021-06-01", "2021-06-01"]
    assert days("2021-06-01T23:50:00", "2021-06-02T00:04:59") == ["2021-06-01", "2021-06-01"]
    assert days("2021-06-01T23:50:00", "2021-06-02T00:05:00") == ["2021-06-01", "2021-06-02"]
    # It is the first image that counts: a chain of images does not drag a later one along.
    assert days("2021-06-01T23:50:00", "2021-06-02T00:02:00", "2021-06-02T00:10:00")[2] == "2021-06-02"


def test_a_date_without_a_clock_is_not_the_end_of_yesterday() -> None:
    assert days("2021-06-01T23:59:58", "2021-06-02T00:00:00", "2021-06-02T00:00:00.000001", "2021-06-02T00:00:05") == [
        "2021-06-01",
        "2021-06-02",
        "2021-06-02",
        "2021-06-01",
    ]

"""Dates in file names are those of one format for the whole folder, or they are refused."""

from __future__ import annotations

import pytest

from restore_dit.config.cube_mapping import CubeMapping
from restore_dit.data.cubes.times import dates_in_names
from restore_dit.errors import UserError


def read(*texts: str, form: str | None = None) -> list[str]:
    return dates_in_names(texts, form, [f"s2_{text}.tif" for text in texts]).astype(str).tolist()


@pytest.mark.parametrize(
    ("texts", "dates"),
    [
        (["2020-02-29", "20201231", "2020_03_01"], ["2020-02-29", "2020-12-31", "2020-03-01"]),
        (["05-02-2019", "20-02-2019", "07-03-2019"], ["2019-02-05", "2019-02-20", "2019-03-07"]),
        (["05022019", "20022019"], ["2019-02-05", "2019-02-20"]),
        (["02/05/2019", "02/20/2019"], ["2019-02-05", "2019-02-20"]),
        (["05.05.2019"], ["2019-05-05"]),
        (["2019036", "2019101"], ["2019-02-05", "2019-04-11"]),
        (["2020366", "2020-060"], ["2020-12-31", "2020-02-29"]),
    ],
)
def test_the_only_order_that_fits_all_names(texts: list[str], dates: list[str]) -> None:
    assert read(*texts) == [f"{date}T00:00:00" for date in dates]


def test_names_may_say_the_time_of_day() -> None:
    assert read("20220530-105611", "20220530T105611", "2022-05-30T10:56:11Z", "20220530T1056") == [
        "2022-05-30T10:56:11", "2022-05-30T10:56:11", "2022-05-30T10:56:11", "2022-05-30T10:56:00",
    ]  # fmt: skip
    assert read("2019036T105431") == ["2019-02-05T10:54:31"]


@pytest.mark.parametrize(
    "texts",
    [
        ["05-02-2019", "07-03-2019"],  # of February or of May?
        ["05-02-2019", "20-02-2019", "02-20-2019"],
        ["2019-02-05", "20-02-2019"],
        ["2019-02-05", "2019-02-30"],
        ["2019366"],
        ["2019000"],
        ["20191399"],
        ["190205"],
        ["05Feb2019"],
        ["1546646400"],
        ["2019-02-05", "latest"],
    ],
)
def test_what_may_mean_several_dates_or_none_is_refused(texts: list[str]) -> None:
    with pytest.raises(UserError, match=r"s2_.*\.tif.*date_format") as error:
        read(*texts)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("form", "text", "date"),
    [
        ("%d-%m-%Y", "05-02-2019", "2019-02-05T00:00:00"),
        ("%m-%d-%Y", "05-02-2019", "2019-05-02T00:00:00"),
        ("%y%m%d", "190205", "2019-02-05T00:00:00"),
        ("%d%b%Y", "05Feb2019", "2019-02-05T00:00:00"),
        ("%Y%m%dT%H%M%S%z", "20190205T010000+0200", "2019-02-04T23:00:00"),
    ],
)
def test_a_stated_format_decides(form: str, text: str, date: str) -> None:
    assert read(text, form=form) == [date]


def test_a_name_that_does_not_follow_the_stated_format_is_one_line() -> None:
    with pytest.raises(UserError, match=r"s2_2019-02-05\.tif.*%d-%m-%Y"):
        read("05-02-2019", "2019-02-05", form="%d-%m-%Y")


@pytest.mark.parametrize("form", ["%d-%m", "%Y-%m", "%Q", "2019"])
def test_a_format_without_a_whole_date_is_refused(form: str) -> None:
    product = {"files": "s2*", "bands": {"B02": "B02"}, "date": "_(.*)", "date_format": form}
    with pytest.raises(ValueError, match="date_format"):
        CubeMapping.model_validate({"source": "test", "optical": [product]})

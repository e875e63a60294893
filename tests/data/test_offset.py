"""The offset of processing baseline 04.00 where nobody subtracted it."""

from __future__ import annotations

import numpy as np
import pytest

from restore_dit.data.stored_values import offset_remark
from restore_dit.series import NO_DATA, Acquisitions
from tests.messages import assert_names


def series(dates: int = 20, first: str = "2018-03-01", bands: tuple[str, ...] = ("B02", "B04", "B08")) -> Acquisitions:
    """Vegetation, with shadow and water at 1 % of the pixels and cloud at half of them: reflectance × 10000."""
    rng = np.random.default_rng(0)
    values = np.full((dates, len(bands), 16, 16), 600) + rng.integers(0, 800, (dates, len(bands), 16, 16))
    chance = rng.random((dates, 1, 16, 16))
    values = np.where(chance < 0.5, values + 3000, np.where(chance > 0.98, 200, values))
    values[:, :, 0] = NO_DATA
    days = np.datetime64(first, "D") + 5 * np.arange(dates)
    return Acquisitions(values.astype(np.int16), days, bands)


def brighter(optical: Acquisitions, by: int, since: int = 0) -> Acquisitions:
    later = np.arange(len(optical))[:, None, None, None] >= since
    values = np.where(later & (optical.values != NO_DATA), optical.values + np.int16(by), optical.values)
    return Acquisitions(values, optical.dates, optical.bands)


def test_an_offset_that_was_left_in_is_told_with_its_number():
    (remark,) = offset_remark(brighter(series(), 1000), "site.nc:", "subtract it")
    assert_names(remark, "site.nc", "0.120", 1000, "subtract it")
    assert "\n" not in remark


def test_the_dates_since_the_baseline_began_are_judged_on_their_own():
    both = series(40, "2021-10-10")
    assert both.dates[20] < np.datetime64("2022-01-25") <= both.dates[22]
    assert offset_remark(both, "", "") == ()
    assert len(offset_remark(brighter(both, 1000, since=22), "", "")) == 1


@pytest.mark.parametrize(
    "given",
    [
        series(),
        brighter(series(), 700),
        brighter(series(), 3000),  # snow
        brighter(series(dates=14), 1000),  # so few dates may all be hazy
        brighter(series(bands=("B08", "B11")), 1000),  # these may be bright everywhere
        series(0),
    ],
)
def test_what_may_be_as_it_is_is_not_remarked(given):
    assert offset_remark(given, "", "") == ()

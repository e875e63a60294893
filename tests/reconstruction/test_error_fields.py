"""Error fields: of variance 1, correlated as the tables say, and the same wherever they are computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_dit.reconstruction.error_fields import BandErrors, error_fields
from restore_dit.series import S2_BANDS

TEN = BandErrors(S2_BANDS, np.eye(10), 0)


@pytest.fixture(scope="module")
def fields() -> np.ndarray:
    """Three members on 40 dates, [3 · n, C, H, W]."""
    days, side = np.arange(40) * 30, np.arange(24)
    return np.concatenate([error_fields(5, member, days, side, side, TEN, 10.0) for member in range(3)])


def test_values_are_standard_normal():
    """Half of the variance is common to a frame and to most bands: of 900 frames, the standard errors are 3 % for the
    mean and 4 % for the variance."""
    days, side = np.arange(900) * 15, np.arange(3)
    fields = error_fields(5, 0, days, side, side, TEN, 10.0)
    assert np.abs(fields.mean(axis=(0, 2, 3))).max() < 0.15
    assert fields.var() == pytest.approx(1, abs=0.1)


def test_errors_extend_in_space(fields):
    def correlation(distance: int) -> float:
        return float((fields[..., distance:] * fields[..., :-distance]).mean() / fields.var())

    near, far = correlation(1), correlation(20)
    assert 0.88 < near < 0.96
    assert 0.45 < far < 0.65


def test_bands_of_20_metres_have_no_details_of_10(fields):
    def roughness(values: np.ndarray, band: str) -> float:
        chosen = values[:, S2_BANDS.index(band)]
        return float(np.square(np.diff(chosen)).mean() / chosen.var())

    assert roughness(fields, "B8A") < 0.6 * roughness(fields, "B08")
    side = np.arange(24)
    coarse = error_fields(5, 0, np.arange(20) * 30, side, side, TEN, 20.0)
    assert roughness(coarse, "B8A") == pytest.approx(roughness(coarse, "B08"), rel=0.2)


def test_errors_of_bands_are_correlated(fields):
    found = np.corrcoef(np.moveaxis(fields, 1, 0).reshape(10, -1))
    green, red, edge, infrared = (S2_BANDS.index(band) for band in ("B03", "B04", "B08", "B8A"))
    assert found[edge, infrared] > 0.8
    assert found[green, red] > 0.6
    assert found[red, infrared] < 0.5


def test_what_calibration_finds_counts_by_its_dates():
    days, side = np.arange(200) * 15, np.arange(3)

    def correlation(value: float, dates: int) -> float:
        found = BandErrors(("B04", "B08"), np.array([[1, value], [value, 1]]), dates)
        return float(
            np.corrcoef(np.moveaxis(error_fields(1, 0, days, side, side, found, 10.0), 1, 0).reshape(2, -1))[0, 1]
        )

    assert correlation(-0.8, 24) < correlation(-0.8, 4) < correlation(-0.8, 0)
    assert correlation(-0.8, 0) == correlation(0.8, 0)


def test_errors_of_near_dates_have_something_in_common():
    side = np.arange(24)
    fields = np.stack(
        [error_fields(7, member, np.array([100, 103, 180]), side, side, TEN, 10.0) for member in range(30)]
    )
    within = fields - fields.mean(axis=(3, 4), keepdims=True)
    near, far = ((within[:, 0] * within[:, other]).mean() / within.var() for other in (1, 2))
    assert 0.2 < near < 0.5
    assert abs(far) < 0.1


@settings(deadline=None, max_examples=10)
@given(
    seed=st.integers(-(2**63), 2**63 - 1),
    row=st.integers(0, 20),
    column=st.integers(0, 20),
    frame=st.integers(0, 3),
    pixel_side=st.sampled_from([10.0, 20.0, 33.3]),
)
def test_a_value_does_not_depend_on_what_else_is_computed(seed, row, column, frame, pixel_side):
    days = np.array([17000, 17003, 17010, 17100])
    whole = error_fields(seed, 1, days, np.arange(24), np.arange(24), TEN, pixel_side)
    part = error_fields(
        seed, 1, days[frame : frame + 1], np.arange(row, row + 4), np.arange(column, column + 3), TEN, pixel_side
    )
    np.testing.assert_allclose(part[0], whole[frame][:, row : row + 4, column : column + 3], atol=2e-6)


def test_members_and_seeds_differ():
    side = np.arange(8)
    found = [
        error_fields(seed, member, np.array([1]), side, side, TEN, 10.0) for seed, member in ((0, 0), (0, 1), (1, 0))
    ]
    assert all(np.abs(one - other).max() > 0.5 for one, other in zip(found, found[1:] + found[:1], strict=True))

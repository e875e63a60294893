"""Vegetation indices, and how far those of filled pixels may be wrong."""

from __future__ import annotations

import numpy as np
import pytest

from restore_dit.indices import index_layers, pair_of
from restore_dit.series import NO_DATA, SAMPLES, Acquisitions, TileSeries
from tests.messages import refused

DATES = np.array(["2019-05-01", "2019-05-06"], "datetime64[D]")


def series(correlation: float) -> TileSeries:
    """Red of 0.05 and near infrared of 0.40 with errors of 0.01 and 0.04; the first date is observed."""
    random = np.random.default_rng(0)
    red, other = random.standard_normal((2, 400))
    infrared = correlation * red + np.sqrt(1 - correlation**2) * other
    values = np.empty((2, 2, 4, 4), np.int16)
    values[:, 0], values[:, 1] = 500, 4000
    members = np.repeat(values[:, None], 400, axis=1)
    members[1, :, 0] += np.rint(100 * red).astype(np.int16)[:, None, None]
    members[1, :, 1] += np.rint(400 * infrared).astype(np.int16)[:, None, None]
    return TileSeries("a", Acquisitions(values, DATES, ("B04", "B08")), layers={SAMPLES: members})


@pytest.mark.parametrize("correlation", [-0.8, 0.0, 0.8])
def test_the_spread_is_that_of_correlated_bands(correlation: float):
    """Within 10 % of what linearisation gives: 2/(N + R)² · |R·dN − N·dR|."""
    found = index_layers(series(correlation), ["ndvi"])
    np.testing.assert_allclose(found["NDVI"], 0.35 / 0.45)
    assert (found["NDVI_uncertainty"][0] == 0).all()
    red, infrared = 0.40 * 0.01, 0.05 * 0.04
    expected = 2 / 0.45**2 * np.sqrt(red**2 + infrared**2 - 2 * correlation * red * infrared)
    assert found["NDVI_uncertainty"][1].mean() == pytest.approx(expected, rel=0.1)


def test_an_index_without_data_has_no_uncertainty_either():
    one = series(0)
    one.optical.values[1, :, 0, 0], one.layers[SAMPLES][1, :, :, 0, 0] = NO_DATA, NO_DATA
    found = index_layers(one, ["NDVI", "ndvi"])
    assert list(found) == ["NDVI", "NDVI_uncertainty"]
    assert np.isnan(found["NDVI"][1, 0, 0])
    assert np.isnan(found["NDVI_uncertainty"][1, 0, 0])


def test_over_dark_ground_the_members_that_have_an_index_give_its_uncertainty():
    one = series(0)
    expected = index_layers(one, ["ndvi"])["NDVI_uncertainty"][1, 0, 0]
    one.layers[SAMPLES][1, 0::2, :, 0, 0] = 0  # half of the members, the first one too
    one.layers[SAMPLES][1, 1:, :, 0, 1] = 0
    found = index_layers(one, ["ndvi"])["NDVI_uncertainty"]
    assert found[1, 0, 0] == pytest.approx(expected, rel=0.1)
    assert np.isnan(found[1, 0, 1])
    assert (found[0] == 0).all()


def test_indices_take_what_bands_there_are():
    assert pair_of("ndvi", ("B04", "B05", "B08", "B8A")) == ("B08", "B04")
    assert pair_of("NDVI", ("B04", "B05", "B8A")) == ("B8A", "B04")
    assert pair_of("ndre", ("B04", "B05", "B8A")) == ("B8A", "B05")
    with refused("ndre", "B8A and B05", "B04"):
        pair_of("ndre", ("B04", "B08"))
    with refused("evil", "ndvi, ndre"):
        pair_of("evil", ("B04", "B08"))

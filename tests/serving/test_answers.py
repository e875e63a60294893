"""What of a filled series a caller gets."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import netCDF4
import numpy as np
import pytest
from rasterio.io import MemoryFile

from restore_dit.config import RunConfig
from restore_dit.config.presets import default, tiny
from restore_dit.reconstruction.dates import at_dates
from restore_dit.series import NEVER_OBSERVED, S2_BANDS, UNCERTAINTY, Acquisitions, TileSeries
from serving.answers import Answer, outputs_of

BANDS = ("B04", "B08")
DATES = np.array(["2019-01-01", "2019-01-06", "2019-01-11"], "datetime64[D]")


@pytest.fixture
def answer() -> Answer:
    random = np.random.default_rng(0)
    values = random.integers(0, 5000, (3, 2, 8, 9), dtype=np.int16)
    layers = {
        NEVER_OBSERVED: np.zeros((8, 9), np.uint8),
        UNCERTAINTY: random.integers(1, 500, (3, 2, 8, 9), dtype=np.int16),
    }
    clear = TileSeries("one", Acquisitions(values, DATES, BANDS), layers=layers)
    return Answer(clear, clear, np.ones((3, 8, 9), bool), {"MODEL": "default"}, ("reflectance", "uncertainty"))


@pytest.mark.parametrize(("config", "sure"), [(default(), True), (tiny(), False)])
def test_only_a_network_that_says_how_sure_it_is_gives_uncertainty(config: RunConfig, sure: bool):
    assert ("uncertainty" in outputs_of(config.model, S2_BANDS)) is sure
    assert "ndvi" not in outputs_of(config.model, ("B05", "B06", "B07"))


def test_uncertainty_comes_with_the_dates_that_are_wanted(answer: Answer):
    date = np.array(["2019-01-06"], "datetime64[D]")
    clear = at_dates(answer.clear, date)
    chosen = replace(answer, cloudy=clear, clear=clear, gap_mask=answer.gap_mask[[1]])
    expected = answer.clear.layers[UNCERTAINTY][1]
    with netCDF4.Dataset("one", memory=chosen.as_one("netcdf")) as file:
        found = np.stack([file[f"{band}_uncertainty"][0] for band in BANDS])
        np.testing.assert_allclose(found * 10_000, expected, atol=1e-3)
    with zipfile.ZipFile(io.BytesIO(chosen.as_one("geotiff"))) as archive:
        images = [name for name in archive.namelist() if name.endswith("_uncertainty.tif")]
        assert len(images) == 1
        with MemoryFile(archive.read(images[0])) as memory, memory.open() as image:
            np.testing.assert_array_equal(image.read(), expected)


def test_without_being_asked_for_it_is_left_out(answer: Answer):
    plain = Answer(answer.cloudy, answer.clear, answer.gap_mask, answer.attributes)
    with netCDF4.Dataset("one", memory=plain.as_one("netcdf")) as file:
        assert "B04" in file.variables
        assert not any(name.endswith("uncertainty") for name in file.variables)
    assert not any("uncertainty" in name for name, _ in plain.files("geotiff"))

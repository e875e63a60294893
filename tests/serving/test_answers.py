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
from restore_dit.data.exchange import netcdf
from restore_dit.indices import index_layers
from restore_dit.reconstruction.dates import at_dates
from restore_dit.series import NEVER_OBSERVED, S2_BANDS, SAMPLES, UNCERTAINTY, Acquisitions, TileSeries
from serving.answers import Answer, outputs_of, require_room
from tests.messages import refused

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


def test_samples_come_with_the_reflectance_and_an_index_with_its_uncertainty(answer: Answer):
    drawn = np.random.default_rng(1).integers(1, 5000, (3, 4, 2, 8, 9), dtype=np.int16)
    clear = replace(answer.clear, layers=answer.clear.layers | {SAMPLES: drawn})
    with_samples = replace(answer, clear=clear, outputs=("reflectance", "ndvi"))
    read = netcdf.decode(with_samples.as_one("netcdf"), "answer")
    np.testing.assert_array_equal(read.layers[SAMPLES], drawn)
    indices = index_layers(clear, ("ndvi",))
    for outputs, expected in (
        (("ndvi",), {"NDVI"}),
        (("ndvi", "uncertainty"), {"NDVI", "NDVI_uncertainty", "B04_uncertainty", "B08_samples"}),
    ):
        with_index = replace(with_samples, outputs=outputs, indices=indices if "uncertainty" in outputs else {})
        with netCDF4.Dataset("one", memory=with_index.as_one("netcdf")) as file:
            assert expected <= set(file.variables)
            assert ("B08_samples" in file.variables) is ("uncertainty" in outputs)


def test_an_ensemble_is_no_larger_than_a_series_may_be(answer: Answer):
    require_room("upload", 4, 3, answer.clear, most=4 * 3 * 144)
    with refused("upload", "samples=5", str(4 * 3 * 144)):
        require_room("upload", 5, 3, answer.clear, most=4 * 3 * 144)


def test_without_being_asked_for_it_is_left_out(answer: Answer):
    plain = Answer(answer.cloudy, answer.clear, answer.gap_mask, answer.attributes)
    with netCDF4.Dataset("one", memory=plain.as_one("netcdf")) as file:
        assert "B04" in file.variables
        assert not any(name.endswith("uncertainty") for name in file.variables)
    assert not any("uncertainty" in name for name, _ in plain.files("geotiff"))

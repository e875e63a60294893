"""Which series a model is sent: a network of patches needs its bands, one of pixels three of them."""

from __future__ import annotations

import numpy as np
import pytest

from restore_dit.config import ModelConfig
from restore_dit.config.presets import default
from restore_dit.series import S2_BANDS, Acquisitions, TileSeries
from serving.answers import require_answerable
from serving.records import RequestOptions
from tests.messages import refused


def series(*bands: str) -> TileSeries:
    dates = np.array(["2020-05-01", "2020-05-06"], "datetime64[D]")
    return TileSeries("a", Acquisitions(np.ones((2, len(bands), 4, 4), np.int16), dates, bands))


@pytest.mark.parametrize("network", ["patches", "pixels"])
def test_a_series_with_all_bands_is_taken_by_any(network):
    require_answerable(
        series(*S2_BANDS), "upload", ModelConfig(network=network), RequestOptions(outputs=("reflectance", "ndvi"))
    )


def test_samples_without_the_bands_that_they_are_of_are_refused():
    for outputs in (("ndvi",), ("previews", "ndvi")):
        with refused("samples=2", "reflectance"):
            require_answerable(series(*S2_BANDS), "upload", ModelConfig(), RequestOptions(samples=2, outputs=outputs))
    wanted = RequestOptions(samples=2, outputs=("ndvi", "uncertainty"))
    require_answerable(series(*S2_BANDS), "upload", default().model, wanted)


def test_a_network_of_pixels_takes_three_and_gives_what_these_allow():
    few = series("B04", "B08", "B11")
    require_answerable(few, "upload", ModelConfig(network="pixels"), RequestOptions(outputs=("ndvi", "previews")))
    with refused("upload", "B02"):
        require_answerable(few, "upload", ModelConfig(), RequestOptions())
    with refused("upload", "3 of"):
        require_answerable(series("B04", "B08"), "upload", ModelConfig(network="pixels"), RequestOptions())
    with refused("upload", "ndvi", "B05"):
        require_answerable(
            series("B04", "B05", "B11"), "upload", ModelConfig(network="pixels"), RequestOptions(outputs=("ndvi",))
        )

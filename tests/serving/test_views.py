"""What the viewer is given of a result is what the result says."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest

from restore_dit.data.storage import locate
from restore_dit.series import NO_DATA, PROVENANCE, UNCERTAINTY, Acquisitions, Provenance, TileSeries
from serving.views import PROVENANCE_COLOURS, Views, write_views

BANDS = ("B02", "B03", "B04", "B08")
DATES = np.array(["2019-01-03", "2019-01-08", "2019-02-01"], "datetime64[D]")


@pytest.fixture
def shown(tmp_path):
    random = np.random.default_rng(0)
    values = random.integers(200, 4000, (3, 4, 5, 7)).astype(np.int16)
    before = values.copy()
    gaps = random.random((3, 5, 7)) < 0.4
    gaps[1, 2, 3], gaps[0, 2, 3] = True, False
    before[gaps.nonzero()[0], :, gaps.nonzero()[1], gaps.nonzero()[2]] = NO_DATA
    cloudy = TileSeries("t", Acquisitions(before, DATES, BANDS))
    codes = np.where(gaps, random.integers(1, 4, gaps.shape), 0).astype(np.uint8)
    deviation = random.integers(1, 900, values.shape).astype(np.int16) * gaps[:, None]
    layers = {PROVENANCE: codes, UNCERTAINTY: deviation}
    clear = TileSeries("t", Acquisitions(values, DATES, BANDS), layers=layers)
    write_views(locate(str(tmp_path)), cloudy, clear, 1.3)
    return Views(locate(str(tmp_path))), values, layers


def picture(content: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(content), format="png")


def test_a_pixel_is_its_series_before_and_after(shown):
    views, values, layers = shown
    gaps = layers[PROVENANCE] > 0
    for row in range(5):
        for column in range(7):
            pixel = views.pixel(row, column)
            assert pixel["gap"] == gaps[:, row, column].tolist()
            assert pixel["provenance"] == [Provenance(code).name.lower() for code in layers[PROVENANCE][:, row, column]]
            for number, band in enumerate(BANDS):
                expected = (values[:, number, row, column] / 10_000).round(4).tolist()
                assert pixel["clear"][band] == pytest.approx(expected)
                spread = layers[UNCERTAINTY][:, number, row, column] / 10_000
                assert pixel["uncertainty"][band] == pytest.approx(spread.tolist())
                seen = [None if gap else one for gap, one in zip(pixel["gap"], expected, strict=True)]
                assert pixel["cloudy"][band] == pytest.approx(seen)
            red, infrared = (values[:, n, row, column].astype(float) for n in (2, 3))
            assert pixel["clear"]["NDVI"] == pytest.approx((infrared - red) / (infrared + red), abs=1e-4)


def test_images_are_brighter_where_the_series_is_and_transparent_where_it_has_none(shown):
    views, values, layers = shown
    gaps = layers[PROVENANCE] > 0
    assert set(views.description["composites"]) == {"true_colour", "false_colour", "index"}
    for index in range(3):
        image = picture(views.image(index, "clear", "true_colour"))
        assert image.shape == (5, 7, 4)
        order = np.argsort(values[index, 2].ravel())
        assert (np.diff(image[..., 0].ravel()[order]) >= 0).all()
        assert (image[..., 3] == 1).all()
        cloudy = picture(views.image(index, "cloudy", "true_colour"))
        np.testing.assert_array_equal(cloudy[..., 3] == 0, gaps[index])
        np.testing.assert_array_equal(cloudy[~gaps[index]], image[~gaps[index]])
        marked = picture(views.image(index, "gaps", ""))
        np.testing.assert_array_equal(marked[..., 3] == 1, gaps[index])
        colours = [PROVENANCE_COLOURS[Provenance(code)] for code in layers[PROVENANCE][index][gaps[index]]]
        np.testing.assert_allclose(marked[gaps[index]] * 255, colours, atol=1e-4)
        spread = picture(views.image(index, "uncertainty", ""))
        np.testing.assert_array_equal(spread[..., 3] == 1, gaps[index])
        mean = layers[UNCERTAINTY][index].mean(axis=0)[gaps[index]]
        assert (np.diff(spread[gaps[index]][mean.argsort()][:, :3].sum(axis=1)) >= -0.01).all()  # brighter: less sure
        green = picture(views.image(index, "clear", "index"))
        ndvi = (values[index, 3] - values[index, 2].astype(float)) / (values[index, 3] + values[index, 2].astype(float))
        assert green[..., 1].ravel()[ndvi.argmax()] > green[..., 0].ravel()[ndvi.argmax()]


@pytest.mark.parametrize("call", [
    lambda views: views.image(3, "clear", "true_colour"), lambda views: views.image(-1, "clear", "true_colour"),
    lambda views: views.image(0, "clear", "../x"), lambda views: views.pixel(5, 0), lambda views: views.pixel(0, -1),
])  # fmt: skip
def test_what_is_not_there_is_not_there(shown, call):
    with pytest.raises(KeyError):
        call(shown[0])


def test_without_uncertainty_there_is_neither_an_image_nor_a_series_of_it(tmp_path):
    values = np.ones((3, 4, 2, 2), np.int16)
    layers = {PROVENANCE: np.ones((3, 2, 2), np.uint8)}
    clear = TileSeries("t", Acquisitions(values, DATES, BANDS), layers=layers, remarks=("bright",))
    write_views(locate(str(tmp_path)), clear, clear, 1.3)
    views = Views(locate(str(tmp_path)))
    assert views.description["interval"] is None
    assert views.description["remarks"] == ["bright"]
    assert "uncertainty" not in views.pixel(0, 0)
    with pytest.raises(KeyError):
        views.image(0, "uncertainty", "")

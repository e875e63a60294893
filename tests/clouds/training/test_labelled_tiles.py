"""Tiles as training sees them: on the network's grid, with what it lacks told from what is dark."""

import numpy as np

from restore_dit.clouds.network.inputs import network_input, reference_of
from restore_dit.clouds.training.labelled_tiles import labelled_tile, nearest, read_labelled_tile
from restore_dit.config.cloud_training import TRAINED_NETWORK
from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.series import NO_DATA, S2_BANDS, Acquisitions, Georeference, TileSeries

TWENTY_METRES = ("B05", "B06", "B07", "B8A", "B11", "B12")


def site(pixel: float = 20.0, bands=TWENTY_METRES, frames=5, size=(6, 8)) -> TileSeries:
    random = np.random.default_rng(3)
    values = random.integers(300, 5000, (frames, len(bands), *size)).astype(np.int16)
    dates = np.datetime64("2019-03-01") + 10 * np.arange(frames)
    clouds = random.choice(np.array([0, 1, 2, 3], np.uint8), (frames, *size))
    place = Georeference("EPSG:32631", (pixel, 0.0, 0.0, 0.0, -pixel, 0.0))
    return TileSeries("site", Acquisitions(values, dates, bands), clouds, georeference=place)


def test_a_tile_of_the_networks_own_grid_is_what_detection_reads(cloud_store):
    tile_id = cloud_store.tile_ids[0]
    series = cloud_store.load(tile_id).series()
    found = read_labelled_tile(cloud_store, tile_id, "source", TRAINED_NETWORK)
    expected = network_input(series.optical.values, series.optical.bands, TRAINED_NETWORK, reference_of(series))
    np.testing.assert_allclose(found.inputs / 10_000, expected.numpy(), atol=0.51e-4)
    frames = found.inputs[:, : len(S2_BANDS)]
    np.testing.assert_array_equal(frames, series.optical.values)  # stored integers come back
    np.testing.assert_array_equal(found.labels, series.clouds)
    assert found.bands == S2_BANDS


def test_a_tile_of_coarser_pixels_without_some_bands():
    series = site()
    found = labelled_tile(series, TRAINED_NETWORK)
    assert found.inputs.shape == (5, 20, 12, 16)
    assert found.bands == TWENTY_METRES
    lacking = [band not in TWENTY_METRES for band in S2_BANDS] * 2
    assert not found.inputs[:, lacking].any()
    assert found.inputs[:, [not lacks for lacks in lacking]].all()
    np.testing.assert_array_equal(found.labels[:, ::2, 1::2], series.clouds)  # each label four times
    np.testing.assert_array_equal(found.labels[:, 1::2, ::2], series.clouds)
    # bilinear interpolation keeps the mean but for the rims
    column = series.optical.bands.index("B11")
    inner = found.inputs[0, S2_BANDS.index("B11")]
    np.testing.assert_allclose(inner.mean(), series.optical.values[0, column].mean(), rtol=0.05)


def test_no_label_where_a_band_has_no_data():
    series = site(pixel=10.0)
    series.optical.values[2, 3, :4] = NO_DATA
    series.optical.values[2, :, 0, 0] = NO_DATA
    found = labelled_tile(series, TRAINED_NETWORK)
    assert (found.labels[2, :4] == 255).all()
    np.testing.assert_array_equal(found.labels[2, 4:], series.clouds[2, 4:])
    assert not found.inputs[2, :10, 0, 0].any()
    assert found.inputs[2, S2_BANDS.index("B05"), 1, 1] != 0
    other = labelled_tile(series, CloudNetworkConfig(bands=("B05",)))  # a band that the network does not read
    np.testing.assert_array_equal(other.labels[2, 1:], series.clouds[2, 1:])


def test_kinds_of_frames():
    series = site(frames=4, size=(10, 10))
    series.clouds[:] = 0
    series.clouds[1] = 1
    series.clouds[2, :5] = 3
    series.clouds[3] = 255
    assert labelled_tile(series, TRAINED_NETWORK).kinds.tolist() == [1, 2, 0, 3]


def test_nearest_takes_the_pixel_that_holds_the_centre():
    labels = np.array([[0, 1, 2], [3, 255, 1]], np.uint8)
    assert nearest(labels, (2, 3)).tolist() == labels.tolist()
    assert nearest(labels, (4, 3)).tolist() == labels[[0, 0, 1, 1]].tolist()
    assert nearest(labels, (2, 2)).tolist() == labels[:, [0, 2]].tolist()
    assert nearest(labels, (1, 1)).tolist() == [[255]]

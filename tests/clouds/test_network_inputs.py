import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_dit.clouds.network.inputs import (
    crop,
    network_input,
    network_size,
    pad,
    reference_of,
    resample,
    resample_logits,
    without_data,
)
from restore_dit.clouds.rule import rule_masks
from restore_dit.config.clouds import CloudNetworkConfig, RuleConfig
from restore_dit.series import NO_DATA, S2_BANDS, Georeference
from tests.clouds.random_network import tile
from tests.messages import refused

SIZES = st.integers(1, 70)


def test_the_network_reads_its_own_bands_in_its_own_order():
    series = tile(0, 3, (5, 4), S2_BANDS)
    values = series.optical.values
    values[1, 2, 3, 1] = NO_DATA
    config = CloudNetworkConfig(bands=("B8A", "B02", "B04"))
    frames = network_input(values, S2_BANDS, config).numpy()
    chosen = [S2_BANDS.index(band) for band in config.bands]
    expected = (values[:, chosen] / 10000.0).astype(np.float32)
    expected[1, 2, 3, 1] = 0
    assert np.array_equal(frames, expected)
    assert without_data(values, S2_BANDS, config).sum() == 1
    assert without_data(values, S2_BANDS, config)[1, 3, 1]
    assert not without_data(values, S2_BANDS, CloudNetworkConfig(bands=("B02",))).any()


def test_reference_bands_follow_those_of_the_frame():
    series = tile(0, 3, (5, 4), S2_BANDS)
    reference = np.random.default_rng(1).random((3, 10, 5, 4)).astype(np.float32)
    reference[0, 7] = np.nan
    config = CloudNetworkConfig(reference=True)
    frames = network_input(series.optical.values, S2_BANDS, config, reference).numpy()
    plain = network_input(series.optical.values, S2_BANDS, CloudNetworkConfig()).numpy()
    assert np.array_equal(frames[:, :4], plain)
    assert np.array_equal(frames[:, 4:], np.nan_to_num(reference[:, [0, 1, 2, 7]]))


def test_the_reference_of_a_tile_is_made_of_its_other_dates_and_skips_what_is_missing():
    series = tile(0, 6, (5, 4), S2_BANDS)
    series.optical.values[2] = NO_DATA
    before = reference_of(series)
    changed = series.optical.values.copy()
    changed[3] = 9000
    after = reference_of(dataclasses.replace(series, optical=dataclasses.replace(series.optical, values=changed)))
    assert np.array_equal(before[3], after[3])
    assert np.isfinite(before).all()
    assert 0 < before.min() < before.max() < 1


def test_bands_that_a_tile_lacks():
    series = tile(0, 2, (5, 4), ("B05", "B8A", "B02"))
    with refused("B02, B03, B04, B8A", "B03, B04", "B05, B8A, B02"):
        network_input(series.optical.values, series.optical.bands, CloudNetworkConfig())
    config = CloudNetworkConfig(missing_bands=True, reference=True)
    frames = network_input(series.optical.values, series.optical.bands, config, np.ones((2, 3, 5, 4), np.float32))
    assert (frames[:, [1, 2, 5, 6]] == 0).all()
    assert (frames[:, [0, 3, 4, 7]] > 0).all()
    with refused("B11, B12"):
        without_data(
            series.optical.values, series.optical.bands, CloudNetworkConfig(bands=("B11", "B12"), missing_bands=True)
        )


@settings(max_examples=60)
@given(SIZES, SIZES)
def test_padding_reflects_and_is_cropped_away(height, width):
    frames = torch.arange(2.0 * height * width).reshape(1, 2, height, width)
    padded = pad(frames, CloudNetworkConfig())
    assert padded.shape[-2] % 32 == padded.shape[-1] % 32 == 0
    assert max(padded.shape[-2] - height, padded.shape[-1] - width) < 32
    assert torch.equal(crop(padded, (height, width)), frames)
    down, right = padded.shape[-2] - height, padded.shape[-1] - width
    sides = ((0, 0), (0, 0), (down // 2, down - down // 2), (right // 2, right - right // 2))
    assert np.array_equal(padded.numpy(), np.pad(frames.numpy(), sides, mode="reflect"))
    if down - down // 2 < height and right - right // 2 < width:
        assert torch.equal(padded, F.pad(frames, (*sides[3], *sides[2]), mode="reflect"))


def grid(pixel: float, height: float | None = None) -> Georeference:
    return Georeference("EPSG:32631", (pixel, 0.0, 0.0, 0.0, -(height or pixel), 0.0))


def test_tiles_of_another_pixel_size_are_resampled():
    config = CloudNetworkConfig(pixel_size=10)
    assert network_size((30, 40), grid(20), config) == (60, 80)
    assert network_size((30, 40), grid(20, 10), config) == (30, 80)
    assert network_size((30, 40), grid(10.1), config) == (30, 40)
    assert network_size((30, 40), grid(5), config) == (15, 20)
    assert network_size((1, 40), grid(2), config) == (1, 8)
    turned = Georeference("EPSG:32631", (0.0, 20.0, 0.0, 20.0, 0.0, 0.0))
    assert network_size((30, 40), turned, config) == (60, 80)
    assert network_size((30, 40), None, config) == (30, 40)
    assert network_size((30, 40), grid(20), CloudNetworkConfig()) == (30, 40)
    with refused("300 m", "10 m"):
        network_size((30, 40), grid(300), config)


def test_degrees_are_metres_where_they_lie():
    """Pixels of 10 m at 50° north, and pixels of as many degrees in both directions."""
    config = CloudNetworkConfig(pixel_size=10)
    tall = 10 / 111_320
    north_up = (tall / np.cos(np.deg2rad(50)), 0.0, 5.0, 0.0, -tall, 50.0)
    assert network_size((30, 40), Georeference("EPSG:4326", north_up), config) == (30, 40)
    square = Georeference("EPSG:4326", (2 * tall, 0.0, 5.0, 0.0, -2 * tall, 60.0))
    assert network_size((300, 400), square, config) == (600, 401)  # the Earth is no sphere
    feet = Georeference("EPSG:2263", (20.0, 0.0, 980000.0, 0.0, -20.0, 200000.0))
    assert network_size((100, 100), feet, config) == (61, 61)


@pytest.mark.parametrize("crs", ["EPSG:99999", "nonsense", ""])
def test_a_reference_system_that_nobody_knows_is_one_line(crs, capfd):
    place = Georeference(crs, (10.0, 0.0, 5e5, 0.0, -10.0, 5e6))
    with refused(f"'{crs}'"):
        network_size((30, 40), place, CloudNetworkConfig(pixel_size=10))
    with refused(f"'{crs}'"):
        rule_masks(dataclasses.replace(tile(0, 3, (5, 4), S2_BANDS), georeference=place), RuleConfig())
    assert capfd.readouterr() == ("", "")


@settings(max_examples=40)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(2, 40), st.integers(2, 40), st.integers(0, 99))
def test_resampling_stays_within_what_is_known(height, width, rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    frames = 0.2 + 0.3 * torch.rand(1, 2, height, width, generator=generator)
    frames[torch.rand(frames.shape, generator=generator) < 0.3] = 0
    frames[:, :, : height // 2, : width // 2] = 0
    read = resample(frames, (rows, columns))
    assert read.shape == (1, 2, rows, columns)
    known = read[read != 0]
    assert ((known > 0.2 - 1e-5) & (known < 0.5 + 1e-5)).all()
    if height >= 16 and width >= 16 and rows >= 16 and columns >= 16:
        assert (read[:, :, : rows // 4, : columns // 4] == 0).all()
        assert (resample(torch.full((1, 1, height, width), 0.4), (rows, columns)) > 0.39).all()


def test_resampling_keeps_places():
    ramp = (1 + torch.arange(24.0)).expand(1, 1, 24, 24) / 100
    fine = resample(ramp, (48, 48))
    assert torch.allclose(fine[0, 0, 0, 2:-2], (0.75 + torch.arange(48.0) / 2)[2:-2] / 100, atol=1e-6)
    coarse = resample(ramp, (12, 12))
    assert torch.allclose(coarse[0, 0, 0, 1:-1], (1.5 + 2 * torch.arange(12.0))[1:-1] / 100, atol=1e-6)
    assert torch.allclose(resample_logits(fine, (24, 24))[..., 2:-2], ramp[..., 2:-2], atol=1e-6)

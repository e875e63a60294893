import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from restore_dit.clouds.network.inference import NetworkDetector
from restore_dit.clouds.network.inputs import network_input, reference_of
from restore_dit.clouds.network.weights import fitted_network
from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.series import CLOUD_NO_DATA, NO_DATA, S2_ALL_BANDS, S2_BANDS, Acquisitions, TileSeries
from tests.clouds.random_network import assert_same_masks, plain_logits, random_weights, reflectance, rounding, tile
from tests.messages import refused

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return random_weights(4)


def detector(weights, config=None, batch_size=4, **arguments) -> NetworkDetector:
    config = config or CloudNetworkConfig()
    network = fitted_network(config, weights).network
    return NetworkDetector(network, config, "test", batch_size=batch_size, **arguments)


@pytest.mark.parametrize("size", [(128, 128), (64, 64), (100, 101), (5, 5), (1, 1), (33, 7)])
def test_masks_are_those_of_plain_pytorch(weights, size):
    series = tile(1, 6, size)
    (masks,) = detector(weights).detect([series])
    assert masks.dtype == np.uint8
    assert masks.shape == (6, *size)
    if min(size) >= 32:
        assert_same_masks(masks, plain_logits(weights, reflectance(series)))
    else:  # PyTorch's own reflection refuses these
        row, column = (
            torch.from_numpy(np.pad(np.arange(n), ((m - n) // 2, m - n - (m - n) // 2), mode="reflect"))
            for n, m in zip(size, (-(-size[0] // 32) * 32, -(-size[1] // 32) * 32), strict=True)
        )
        logits = plain_logits(weights, reflectance(series)[:, :, row][:, :, :, column]).argmax(1).numpy()
        top, left = (len(row) - size[0]) // 2, (len(column) - size[1]) // 2
        assert np.array_equal(masks, logits[:, top : top + size[0], left : left + size[1]])


@pytest.mark.parametrize("size", [(64, 64), (64, 45)])
def test_padding_as_the_published_script_pads(weights, size):
    series = tile(3, 4, size)
    (masks,) = detector(weights, CloudNetworkConfig(padding="published")).detect([series])
    assert_same_masks(masks, plain_logits(weights, reflectance(series), as_published=True))


def test_a_bias_for_clear_moves_the_line_to_clear(weights):
    series = tile(3, 4, (64, 64))
    logits = plain_logits(weights, reflectance(series))
    logits[:, 0] += 0.7
    config = CloudNetworkConfig()
    (masks,) = NetworkDetector(fitted_network(config, weights)[0], config, "", clear_bias=0.7).detect([series])
    assert_same_masks(masks, logits)


def test_thirteen_bands_of_real_scenes(shared: Path):
    scenes = np.load(shared / "data" / "cloud_masks" / "reference_scenes_l1c_13bands.npz")["reflectance_x10000"]
    values = np.ascontiguousarray(scenes.transpose(0, 3, 1, 2))
    dates = np.datetime64("2016-01-01") + np.arange(len(values))
    series = TileSeries("scenes", Acquisitions(values, dates, S2_ALL_BANDS))
    weights = random_weights(13, F.pad(reflectance(series), (14, 14, 13, 14), mode="reflect"))
    shuffled = S2_ALL_BANDS[::-1]
    turned = TileSeries("turned", Acquisitions(np.ascontiguousarray(values[:, ::-1]), dates, shuffled))
    first, second = detector(weights, CloudNetworkConfig(bands=S2_ALL_BANDS)).detect([series, turned])
    frames = reflectance(series)
    rounded_by = max(2.5e-4, rounding(weights, frames))  # 0.006 on a processor without AVX-512
    assert_same_masks(first, plain_logits(weights, frames), share=1e-3, rounded_by=rounded_by)
    assert np.array_equal(first, second)


TILES = [
    tile(number, frames, size)
    for number, (frames, size) in enumerate(
        [(5, (64, 32)), (1, (64, 32)), (9, (40, 33)), (0, (64, 32)), (3, (64, 30)), (2, (32, 32)), (4, (64, 32))]
    )
]


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_masks_depend_neither_on_neighbours_nor_on_batches(weights, batch_size):
    one = detector(weights, batch_size=batch_size)
    together = list(one.detect(TILES))
    backwards = list(one.detect(TILES[::-1]))[::-1]
    for series, masks, others in zip(TILES, together, backwards, strict=True):
        assert masks.shape == (len(series.optical), *series.size)
        (alone,) = one.detect([series])
        assert np.array_equal(masks, alone)
        assert np.array_equal(masks, others)
        if len(masks) > 3:
            assert_same_masks(masks, plain_logits(weights, reflectance(series)))


def test_batches_are_full_of_one_shape_and_small_for_large_frames(weights):
    one = detector(weights, batch_size=8)
    shapes = []
    one.network.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    list(one.detect([tile(0, 10, (64, 64)), tile(1, 7, (60, 50)), tile(2, 3, (256, 256))]))
    assert sorted(shapes) == [(2, 4, 256, 256)] * 2 + [(8, 4, 64, 64)] * 3


def test_few_tiles_are_in_flight(weights):
    one = detector(weights, batch_size=4)
    taken = []

    def source():
        for number in range(40):
            taken.append(number)
            yield tile(number, 3, (32, 64) if number % 10 else (32, 32))

    for number, _ in enumerate(one.detect(source())):
        assert len(taken) - number <= 7  # four batches of four frames behind the oldest tile, three frames each


def test_no_data_of_the_networks_bands_is_marked(weights):
    series = tile(0, 3, (40, 40), S2_BANDS)
    (before,) = detector(weights).detect([series])
    series.optical.values[1, S2_BANDS.index("B8A"), 3, 4] = NO_DATA
    series.optical.values[2, S2_BANDS.index("B11"), 5, 6] = NO_DATA
    (masks,) = detector(weights).detect([series])
    assert (masks == CLOUD_NO_DATA).sum() == 1
    assert masks[1, 3, 4] == CLOUD_NO_DATA
    assert np.array_equal(masks[[0, 2]], before[[0, 2]])


def test_a_network_with_reference_sees_the_other_dates():
    series = tile(3, 5, (64, 64), S2_BANDS)
    config = CloudNetworkConfig(reference=True)
    weights = random_weights(8)
    (masks,) = detector(weights, config, batch_size=2).detect([series])
    frames = network_input(series.optical.values, S2_BANDS, config, reference_of(series))
    assert_same_masks(masks, plain_logits(weights, frames), share=1e-3)


def test_a_tile_of_another_pixel_size(weights):
    series = tile(3, 3, (30, 40), pixel_size=20)
    (masks,) = detector(weights, CloudNetworkConfig(pixel_size=10)).detect([series])
    fine = F.interpolate(reflectance(series), size=(60, 80), mode="bilinear")
    logits = F.interpolate(plain_logits(weights, fine), size=(30, 40), mode="bilinear", antialias=True)
    assert_same_masks(masks, logits, share=1e-3)
    (unlike,) = detector(weights).detect([series])
    assert (unlike != masks).any()


def test_bf16_is_that_of_pytorch(weights):
    series = tile(4, 4, (64, 64))
    (exact,) = detector(weights).detect([series])
    (rough,) = detector(weights, precision="bf16").detect([series])
    with torch.autocast("cpu", torch.bfloat16):
        plain = plain_logits(weights, reflectance(series))
    # How much two ways to compute in bf16 differ is the processor's business: less than bf16 differs from fp32.
    from_plain, of_bf16 = (rough != plain.argmax(dim=1).numpy()).mean(), (rough != exact).mean()
    assert from_plain < of_bf16 / 5


def test_a_detector_passes_pickling(weights):
    one = detector(weights)
    (masks,) = one.detect(TILES[:1])
    copy = pickle.loads(pickle.dumps(one))  # noqa: S301 as workers get it
    assert np.array_equal(next(copy.detect(TILES[:1])), masks)
    assert copy.origin == one.origin
    assert copy.origin.method == "network"


def test_what_it_refuses(weights):
    one = detector(weights, CloudNetworkConfig(pixel_size=10))
    lacking = tile(7, 2, (32, 32), ("B02", "B03"))
    with refused("tile tile7", "B04, B8A"):
        list(one.detect([lacking]))
    with refused("B04, B8A"):
        one.require(lacking.optical.bands, lacking.size, None)
    with refused("tile tile8", "500 m"):
        list(one.detect([tile(8, 2, (32, 32), pixel_size=500)]))
    if not torch.cuda.is_available():
        with refused("GPU"):
            list(detector(weights, device="cuda").detect(TILES))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu(weights):
    for series, masks in zip(TILES, detector(weights, device="cuda").detect(TILES), strict=True):
        if len(masks) > 3:
            assert_same_masks(masks, plain_logits(weights, reflectance(series)), share=1e-3)

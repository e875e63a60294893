"""Augmented examples: labels stay with their pixels, and what is unknown stays unknown."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_dit.clouds.training.examples import disturbed, dropped_channels, mirrored
from restore_dit.config.cloud_training import TRAINED_NETWORK, CloudAugmentationConfig
from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.series import S2_BANDS

STILL = CloudAugmentationConfig(brightness=0, frame_gain=0, band_gain=0, offset=0, noise=0)
BANDS = len(S2_BANDS)


def example(seed: int, size: int = 8) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.uniform(0.01, 0.9, (2 * BANDS, size, size)).astype(np.float32)
    values[random.random(values.shape) < 0.1] = 0
    return values


@given(st.integers(0, 10_000))
def test_mirrored_labels_stay_with_their_pixels(seed):
    labels = np.random.default_rng(seed).integers(0, 4, (8, 8)).astype(np.uint8)
    values = np.stack([labels, labels + 10]).astype(np.float32)
    shown, said = mirrored(values, labels, np.random.default_rng(seed))
    np.testing.assert_array_equal(shown, np.stack([said, said + 10]))


def test_mirroring_reaches_all_eight_symmetries():
    labels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    random = np.random.default_rng(0)
    assert len({mirrored(labels[None], labels, random)[1].tobytes() for _ in range(200)}) == 8


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 0.5))
def test_unknown_stays_unknown_and_nothing_becomes_it(seed, offset, noise):
    values = example(seed)
    found = disturbed(
        values, TRAINED_NETWORK, CloudAugmentationConfig(offset=offset, noise=noise), np.random.default_rng(seed)
    )
    np.testing.assert_array_equal(found == 0, values == 0)
    assert np.isfinite(found).all()
    assert found.dtype == np.float32


def test_without_strength_nothing_changes():
    values = example(1)
    np.testing.assert_array_equal(disturbed(values, TRAINED_NETWORK, STILL, np.random.default_rng(0)), values)


def test_only_brightness_touches_the_reference():
    values = example(2)
    strong = STILL.model_copy(update={"frame_gain": 0.3, "band_gain": 0.1, "offset": 0.02, "noise": 0.01})
    found = disturbed(values, TRAINED_NETWORK, strong, np.random.default_rng(0))
    np.testing.assert_array_equal(found[BANDS:], values[BANDS:])
    assert (found[:BANDS] != values[:BANDS]).any()
    lit = disturbed(values, TRAINED_NETWORK, STILL.model_copy(update={"brightness": 0.2}), np.random.default_rng(0))
    gains = lit[values > 0] / values[values > 0]
    assert gains.std() < 1e-6
    assert abs(gains.mean() - 1) > 1e-3


@given(st.sets(st.sampled_from(S2_BANDS), min_size=1), st.integers(0, 10_000))
def test_an_example_keeps_bands_that_its_tile_has(known, seed):
    bands = tuple(band for band in S2_BANDS if band in known)
    always = CloudAugmentationConfig(band_dropout=1.0, reference_dropout=0.3)
    lacking = dropped_channels(TRAINED_NETWORK, bands, always, np.random.default_rng(seed))
    kept = {band for band, lacks in zip(S2_BANDS, lacking[:BANDS], strict=True) if not lacks}
    assert kept
    assert kept <= known
    reference = lacking[BANDS:]
    assert reference.all() or (reference == lacking[:BANDS]).all()


def test_a_network_that_needs_all_bands_gets_them():
    network = CloudNetworkConfig(bands=S2_BANDS)
    always = CloudAugmentationConfig(band_dropout=1.0)
    for seed in range(20):
        lacking = dropped_channels(network, S2_BANDS, always, np.random.default_rng(seed))
        assert lacking.shape == (BANDS,)
        assert not lacking.any()


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_bands_are_dropped_as_often_as_asked(share):
    config = CloudAugmentationConfig(band_dropout=share, reference_dropout=0)
    subset = CloudAugmentationConfig().band_subsets[0]
    random = np.random.default_rng(0)
    drawn = [dropped_channels(TRAINED_NETWORK, S2_BANDS, config, random)[:BANDS] for _ in range(2000)]
    only_subset = np.array([band not in subset for band in S2_BANDS])
    as_subset = np.mean([np.array_equal(lacking, only_subset) for lacking in drawn])
    assert as_subset == pytest.approx(share / 2 / 3, abs=0.03)
    # at random, one example in eight keeps all ten of three to ten bands
    assert np.mean([lacking.any() for lacking in drawn]) == pytest.approx(share / 2 * (1 + 7 / 8), abs=0.04)

"""Examples: the same for a seed, step and place, from training frames only, of kinds and stores as asked."""

import numpy as np
import pytest

from restore_dit.clouds.training.examples import ExampleMaker, class_shares, store_shares
from restore_dit.clouds.training.labelled_tiles import TilesInMemory
from restore_dit.clouds.training.run import CloudTask
from restore_dit.clouds.training.split import open_labelled_stores
from restore_dit.config.cloud_training import CloudAugmentationConfig, CloudTrainingConfig, FrameSharesConfig
from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.series import S2_BANDS, Acquisitions, TileSeries
from tests.data.store.tiles import store_of, tile

PLAIN = CloudAugmentationConfig(
    flips=False, zoom=1, brightness=0, frame_gain=0, band_gain=0, offset=0, noise=0, band_dropout=0, reference_dropout=0
)


def maker_of(config: CloudTrainingConfig) -> ExampleMaker:
    stores = open_labelled_stores(config)
    return ExampleMaker(stores, TilesInMemory(stores, config), config)


def labelled_by_value(tile_id: str, size=(64, 64), frames=12, seed=0) -> TileSeries:
    """A tile whose reflectance says what its label is: 0.1 for class 0, 0.2 for class 1, …; labels in squares of 8."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 4, (frames, -(-size[0] // 8), -(-size[1] // 8))).astype(np.uint8)
    clouds = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, : size[0], : size[1]]
    values = (1000 * (clouds[:, None].astype(np.int16) + 1)).repeat(len(S2_BANDS), axis=1).astype(np.int16)
    dates = np.datetime64("2019-01-01") + 5 * np.arange(frames)
    return TileSeries(tile_id, Acquisitions(values, dates, S2_BANDS), np.ascontiguousarray(clouds))


def test_examples_follow_from_seed_step_and_place_alone(training):
    first, second = maker_of(training(seed=5)), maker_of(training(seed=5))
    later = second.batch(7)
    for maker in (first, second):
        again = maker.batch(7)
        assert np.array_equal(again.inputs, later.inputs)
        assert np.array_equal(again.labels, later.labels)
    streamed = [batch for (batch,) in CloudTask(training(seed=5)).batches(6, 9)]
    assert np.array_equal(streamed[1].inputs, later.inputs)
    assert not np.array_equal(streamed[0].inputs, later.inputs)
    assert not np.array_equal(maker_of(training(seed=6)).batch(7).inputs, later.inputs)


def test_a_cache_that_is_too_small_changes_no_example(training):
    """The tiles' order in parts is the same as long as all fit into one."""
    large, small = maker_of(training(part_steps=1000)), maker_of(training(part_steps=1000))
    small.tiles._room = 1.0  # every tile is thrown away as soon as the next one comes
    for step in range(3):
        assert np.array_equal(large.batch(step).inputs, small.batch(step).inputs)
    assert len(small.tiles._tiles) == 1


def test_a_store_larger_than_the_memory_is_read_part_by_part(training):
    config = training(memory_gigabytes=0.004, part_steps=2)
    maker = maker_of(config)
    parts = maker._parts[0]
    assert len(parts) > 1
    assert sorted(tile_id for part in parts for tile_id in part) == sorted(maker.stores[0].training)
    for part in parts:
        assert len(part) == 1 or sum(maker.tiles(0, tile_id).bytes for tile_id in part) <= 0.004e9
    for step in range(2 * len(parts)):
        before = set(maker.tiles._tiles)
        maker.batch(step)
        assert {tile_id for _, tile_id in set(maker.tiles._tiles) - before} <= {*parts[step // 2]}


@pytest.mark.parametrize("zoom", [1.0, 1.3])
def test_labels_stay_with_their_pixels(tmp_path, zoom):
    store = store_of(tmp_path / "store", *(labelled_by_value(f"t{number}", seed=number) for number in range(3)))
    augmentation = PLAIN.model_copy(update={"flips": True, "zoom": zoom})
    network = CloudNetworkConfig(bands=S2_BANDS)
    maker = maker_of(
        CloudTrainingConfig(stores=(store.uri,), network=network, crop=32, augmentation=augmentation, batch_size=40)
    )
    batch = maker.batch(0)
    told = (batch.inputs[:, 0] * 10).round() - 1
    agree = (told == batch.labels).float().mean(dim=(1, 2))
    if zoom == 1:
        assert (agree == 1).all()
    else:
        assert (agree > 0.85).all()  # interpolation blurs the borders between squares, nothing else
        assert (agree < 1).any()


def test_a_tile_smaller_than_an_example_is_continued_without_labels(tmp_path):
    store = store_of(tmp_path / "store", *(labelled_by_value(f"t{n}", size=(16, 40), seed=n) for n in range(2)))
    network = CloudNetworkConfig(bands=S2_BANDS)
    maker = maker_of(CloudTrainingConfig(stores=(store.uri,), network=network, crop=32, augmentation=PLAIN))
    example = maker.example(0, 0)
    assert example.inputs.shape == (10, 32, 32)
    assert (example.labels[16:] == 255).all()
    assert (example.labels[:16] != 255).all()
    np.testing.assert_array_equal(example.inputs[:, 16:], example.inputs[:, 15::-1])


def test_only_frames_of_training_are_learned_from(tmp_path):
    series = labelled_by_value("one", frames=40)
    series.optical.values[:, 9] = 100 + 10 * np.arange(40)[:, None, None]  # the last band numbers the frame
    store = store_of(tmp_path / "store", series)
    network = CloudNetworkConfig(bands=S2_BANDS)
    maker = maker_of(
        CloudTrainingConfig(stores=(store.uri,), network=network, crop=32, augmentation=PLAIN, batch_size=200)
    )
    shown = {round((float(value) * 10_000 - 100) / 10) for value in maker.batch(0).inputs[:, 9, 0, 0]}
    assert shown == {*maker.stores[0].training["one"].tolist()}
    assert not shown & {*maker.stores[0].validation["one"].tolist()}


def test_kinds_of_frames_come_as_often_as_asked(tmp_path):
    series = labelled_by_value("one", frames=40)
    series.clouds[:25] = 0
    series.clouds[25:35] = 1
    store = store_of(tmp_path / "store", series)
    config = CloudTrainingConfig(
        stores=(store.uri,), network=CloudNetworkConfig(bands=S2_BANDS), crop=32, augmentation=PLAIN, batch_size=500,
        frames=FrameSharesConfig(mixed=0.5, clear=0.2, covered=0.3), validation={"share": 0},
    )  # fmt: skip
    labels = maker_of(config).batch(0).labels.flatten(1)
    clear, covered = (labels == 0).all(dim=1).float().mean(), (labels == 1).all(dim=1).float().mean()
    assert clear == pytest.approx(0.2, abs=0.05)
    assert covered == pytest.approx(0.3, abs=0.05)


def test_shares_of_stores(tmp_path):
    stores = (
        store_of(tmp_path / "few", tile("a", frames=10, size=(8, 8))),
        store_of(tmp_path / "many", *(tile(f"b{number}", frames=10, size=(16, 16)) for number in range(4))),
    )
    uris = tuple(store.uri for store in stores)
    none_held_out = {"share": 0}

    def shares(**changes) -> list[float]:
        config = CloudTrainingConfig(stores=uris, validation=none_held_out, **changes)
        return store_shares(open_labelled_stores(config), config).tolist()

    assert shares(store_balance=0) == pytest.approx([1 / 17, 16 / 17])
    assert shares(store_balance=0.5) == pytest.approx([1 / 5, 4 / 5])
    assert shares(store_balance=1) == pytest.approx([1 / 2, 1 / 2])
    assert shares(shares=(3, 1)) == pytest.approx([3 / 4, 1 / 4])


def test_how_often_classes_are_drawn(tmp_path):
    series = labelled_by_value("one", frames=20)
    series.clouds[series.clouds == 2] = 255
    store = store_of(tmp_path / "store", series)
    maker = maker_of(
        CloudTrainingConfig(stores=(store.uri,), network=CloudNetworkConfig(bands=S2_BANDS), crop=32, batch_size=32)
    )
    assert class_shares(maker, 4) == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3], abs=0.05)

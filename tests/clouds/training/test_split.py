"""Nothing is both learned from and scored on."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from restore_dit.clouds.training.labelled_tiles import TilesInMemory
from restore_dit.clouds.training.split import open_labelled_stores, split_frames, with_bands_of_stores
from restore_dit.clouds.training.validation import HeldOutFrames
from restore_dit.config.cloud_training import CloudTrainingConfig, CloudValidationConfig
from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.errors import UserError
from restore_dit.series import TileSeries
from tests.data.store.tiles import store_of, tile
from tests.messages import assert_names, refused

SHARES = st.sampled_from([0.05, 0.1, 0.2, 0.25, 1 / 3, 0.5])


@given(st.lists(st.integers(1, 90), min_size=1, max_size=12), SHARES, st.integers(1, 20), st.integers(0, 99))
def test_parts_are_disjoint_and_whole(counts, share, block, seed):
    frames = {f"tile{number}": count for number, count in enumerate(counts)}
    parts = split_frames(frames, CloudValidationConfig(share=share, block=block), seed)
    seen = [(tile_id, int(frame)) for part in parts for tile_id, chosen in part.items() for frame in chosen]
    assert sorted(seen) == [(tile_id, frame) for tile_id in sorted(frames) for frame in range(frames[tile_id])]
    if len(frames) > 1:
        assert 1 <= len(parts[1]) <= len(frames)
        assert not parts[0].keys() & parts[1].keys()


@given(st.integers(40, 200), SHARES, st.integers(2, 8), st.integers(0, 99))
def test_dates_of_a_single_tile_are_held_out_in_blocks_over_the_whole_period(count, share, block, seed):
    _, validation = split_frames({"one": count}, CloudValidationConfig(share=share, block=block), seed)
    held_out = np.isin(np.arange(count), validation["one"])
    together = max(round(1 / share), 2)
    length = max(min(block, count // together), 1)
    changes = np.flatnonzero(np.diff(np.concatenate([[0], held_out.astype(int), [0]])))
    runs = changes[1::2] - changes[::2]
    assert ((runs % length == 0) | (changes[1::2] == count)).all()  # whole blocks, but for the end of the series
    whole = count // (length * together)
    counts = held_out[: whole * length * together].reshape(whole, -1).sum(axis=1)
    assert (counts == length).all()  # the same share of each stretch of time


@given(st.integers(1, 200), st.floats(0.001, 0.5), st.integers(1, 20), st.integers(0, 99))
def test_a_block_of_a_single_tile_is_held_out_however_small_the_share(count, share, block, seed):
    _, validation = split_frames({"one": count}, CloudValidationConfig(share=share, block=block), seed)
    assert len(validation["one"])


@pytest.mark.parametrize("share", [0.7, 0.9, 1.0, -0.1])
def test_shares_that_cannot_be_held_out_are_refused(share):
    with pytest.raises(ValidationError, match=r"validation\.share"):
        CloudTrainingConfig(validation={"share": share})


def test_a_tile_without_frames_is_no_validation(tmp_path):
    store = store_of(tmp_path / "store", tile("one"))
    config = CloudTrainingConfig(stores=(store.uri,), validation={"share": 0})
    (labelled,) = open_labelled_stores(config)
    labelled = replace(labelled, validation={"one": np.array([], int)})
    assert not HeldOutFrames([labelled], TilesInMemory([labelled], config), config)


def test_a_tile_that_joins_moves_no_other():
    config = CloudValidationConfig(share=0.3)
    few, many = ({f"t{number}": 4 for number in range(count)} for count in (15, 20))
    assert split_frames(few, config, 1)[1].keys() == split_frames(many, config, 1)[1].keys() & few.keys()


def test_stores_of_the_same_name_keep_apart(tmp_path):
    for folder in ("a", "b"):
        store_of(tmp_path / folder / "site", tile("one", frames=12), tile("two", frames=5))
    stores = open_labelled_stores(CloudTrainingConfig(stores=(str(tmp_path / "a/site"), str(tmp_path / "b/site"))))
    assert [store.name for store in stores] == ["site-1", "site-2"]
    assert stores[0].sizes == {"one": (6, 5), "two": (6, 5)}


def test_the_network_reads_what_all_stores_have(tmp_path):
    first = store_of(tmp_path / "a", tile("one", bands=("B02", "B8A", "B11")), tile("two", bands=("B8A", "B11", "B12")))
    second = store_of(tmp_path / "b", tile("one"))
    third = store_of(tmp_path / "c", tile("one", bands=("B03",)))
    both = CloudTrainingConfig(stores=(first.uri, second.uri))
    assert with_bands_of_stores(both).network.bands == ("B8A", "B11")
    apart = both.model_copy(update={"bands_in_common": False})
    assert with_bands_of_stores(apart) == apart
    published = both.model_copy(update={"network": CloudNetworkConfig()})  # has no use for less than its bands
    assert with_bands_of_stores(published) == published
    with refused("B02"):
        with_bands_of_stores(CloudTrainingConfig(stores=(first.uri, third.uri)))


def test_the_fingerprint_is_that_of_tiles_and_labels(tmp_path):
    def fingerprint(folder: str, *tiles: TileSeries) -> str:
        store = store_of(tmp_path / folder, *tiles)
        (found,) = open_labelled_stores(CloudTrainingConfig(stores=(store.uri,)))
        return found.fingerprint

    first = fingerprint("a", tile("one"), tile("two", seed=1))
    assert fingerprint("b", tile("two", seed=1), tile("one")) == first
    relabelled, changed = tile("one"), tile("one")
    relabelled.clouds[0] = 3
    changed.optical.values[0] += 1
    others = [(tile("one"),), (relabelled, tile("two", seed=1)), (changed, tile("two", seed=1))]
    found = [fingerprint(f"c{number}", *tiles) for number, tiles in enumerate(others)]
    assert len({first, *found}) == 4


def refusal(tmp_path, *tiles, **changes) -> str:
    store = store_of(tmp_path / "store", *tiles)
    with pytest.raises(UserError) as caught:
        open_labelled_stores(CloudTrainingConfig(stores=(store.uri,), **changes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_tiles_without_masks_are_refused(tmp_path):
    assert_names(refusal(tmp_path, tile("one"), tile("two", clouds=False)), "tile two", "source")


def test_masks_of_another_method_are_not_taken_for_labels(tmp_path):
    assert_names(refusal(tmp_path, tile("one"), labels="s2cloudless"), "s2cloudless")


def test_no_band_in_common_is_refused(tmp_path):
    network = CloudNetworkConfig(bands=("B02", "B03"), missing_bands=True)
    assert_names(refusal(tmp_path, tile("one", bands=("B11", "B12")), network=network), "B02, B03")


def test_a_single_frame_that_is_held_out_leaves_nothing_to_learn_from(tmp_path):
    found = refusal(tmp_path, tile("one", frames=1))
    assert_names(found, 1, "validation.share", 0)


def test_no_store_is_refused():
    with refused("URI", status=2):
        open_labelled_stores(CloudTrainingConfig())

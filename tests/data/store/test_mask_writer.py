"""Masks for the tiles of a store: beside those that are there, each once, whoever dies or writes meanwhile."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from restore_dit.data.store.manifest import MANIFEST_NAME, layer_object
from restore_dit.data.store.mask_writer import MaskWriter
from restore_dit.data.store.masks import MaskOrigin
from restore_dit.data.store.tile_store import TileStore, TileStoreWriter
from restore_dit.data.store.tile_writing import write_masks
from restore_dit.inspection.verification import verify_store
from restore_dit.series import NO_DATA
from tests.data.store.tiles import store_of, tile
from tests.messages import refused

RULE = MaskOrigin(method="rule", by="thresholds 1")


def masks_like(tile_id: str, value: int = 2) -> np.ndarray:
    clouds = np.full((4, 6, 5), value, np.uint8)
    clouds[0] = 0
    return clouds


def give(store: TileStore, *tile_ids: str, origin: MaskOrigin = RULE, value: int = 2) -> MaskWriter:
    writer = MaskWriter(store, origin)
    for tile_id in writer.todo(tile_ids):
        series, record = store.load(tile_id).series(), store.record(tile_id)
        writer.adopt(tile_id, write_masks(store.location, series, masks_like(tile_id, value), origin, record))
    return writer


def test_new_masks_are_in_use_and_the_old_ones_stay(tmp_path: Path) -> None:
    before = store_of(tmp_path, tile("a"), tile("b"))
    old = before.load("a").series().clouds
    give(before, "a", "b").commit()
    after = TileStore.open(tmp_path)
    for tile_id in "ab":
        np.testing.assert_array_equal(after.load(tile_id).series().clouds, masks_like(tile_id))
    np.testing.assert_array_equal(after.load("a", masks="clouds").series().clouds, old)
    np.testing.assert_array_equal(before.load("a").series().clouds, old)  # a reader of the generation before
    assert verify_store(after, deep=True) == []
    assert after.record("a").masks[RULE.layer].origin == RULE
    values = tile("a").optical.values[0, 0]
    clear = values[values != NO_DATA]
    assert after.manifest.optical_sums(["a"])["B02"].mean == pytest.approx(clear.mean() / 10000)
    assert after.record("a").clouds is not None
    counts = after.load("a").cloud_counts
    assert counts is not None
    assert counts.clear_pixels == (30, 0, 0, 0)


def test_the_fingerprint_is_that_of_the_masks_in_use(tmp_path: Path) -> None:
    store = store_of(tmp_path, tile("a"))
    with_rule = give(store, "a").commit().fingerprint
    assert with_rule != store.fingerprint
    back = give(TileStore.open(tmp_path), "a", origin=MaskOrigin(method="source"))
    assert back.commit().fingerprint == store.fingerprint


def test_masks_that_are_there_are_neither_made_nor_committed_again(tmp_path: Path) -> None:
    store = store_of(tmp_path, tile("a"), tile("b"))
    give(store, "a").commit()
    store = TileStore.open(tmp_path)
    writer = MaskWriter(store, RULE)
    assert writer.todo(["a", "b"]) == ["b"]
    assert writer.uncommitted == 0
    assert writer.commit().generation == store.manifest.generation
    other = MaskOrigin(method="rule", by="thresholds 2")
    assert MaskWriter(store, other).todo(["a", "b"]) == ["a", "b"]


def test_what_a_killed_run_wrote_is_taken_up(tmp_path: Path) -> None:
    store = store_of(tmp_path, tile("a"), tile("b"), tile("c"))
    give(store, "a", "b")  # and dies before it commits
    damaged = tmp_path / layer_object(RULE.layer, "b")
    damaged.write_bytes(damaged.read_bytes()[:-9])
    writer = MaskWriter(TileStore.open(tmp_path), RULE)
    assert writer.todo("abc") == ["b", "c"]
    assert writer.uncommitted == 1
    writer.commit()
    np.testing.assert_array_equal(TileStore.open(tmp_path).load("a").series().clouds, masks_like("a"))


@pytest.mark.parametrize("manifest_stays", [False, True])
def test_masks_of_a_tile_that_was_ingested_anew_are_made_again(tmp_path: Path, manifest_stays: bool) -> None:
    give(store_of(tmp_path, tile("a")), "a").commit()
    if not manifest_stays:
        (tmp_path / MANIFEST_NAME).unlink()
    (tmp_path / "tiles/a.parquet").unlink()
    store = store_of(tmp_path, tile("a", seed=1))  # other pixels in the same shape
    assert store.record("a").masks.keys() == {"clouds"}
    writer = give(store, "a", value=1)
    assert writer.uncommitted == 1
    writer.commit()
    np.testing.assert_array_equal(TileStore.open(tmp_path).load("a").series().clouds, masks_like("a", 1))


def test_a_file_that_is_there_never_changes(tmp_path: Path) -> None:
    """Two runs that do the same tile at the same time, and round differently."""
    store = store_of(tmp_path, tile("a"))
    first, second = MaskWriter(store, RULE), MaskWriter(store, RULE)
    assert first.todo("a") == second.todo("a") == ["a"]
    for writer, value in ((first, 1), (second, 2)):
        series = store.load("a").series()
        masks = write_masks(store.location, series, masks_like("a", value), RULE, store.record("a"))
        writer.adopt("a", masks)
        writer.commit()
    after = TileStore.open(tmp_path)
    np.testing.assert_array_equal(after.load("a").series().clouds, masks_like("a", 1))
    assert verify_store(after) == []
    assert second.commit().generation == after.manifest.generation


def test_a_run_that_found_nothing_new_leaves_a_later_choice_alone(tmp_path: Path) -> None:
    store = store_of(tmp_path, tile("a"))
    first, second = give(store, "a"), give(store, "a")
    first.commit()
    second.commit()
    give(TileStore.open(tmp_path), "a", origin=MaskOrigin(method="source")).commit()
    second.commit()
    assert TileStore.open(tmp_path).record("a").masks_in_use == "clouds"


def test_an_ingest_that_commits_late_keeps_the_masks_given_meanwhile(tmp_path: Path) -> None:
    slow = TileStoreWriter(tmp_path)
    slow.add(tile("a"))
    TileStoreWriter(tmp_path).commit()  # takes tile a over
    give(TileStore.open(tmp_path), "a").commit()
    slow.commit()
    assert TileStore.open(tmp_path).record("a").masks_in_use == RULE.layer


def test_a_lost_manifest_loses_no_masks(tmp_path: Path) -> None:
    tiles = give(store_of(tmp_path, tile("a")), "a").commit().tiles
    (tmp_path / MANIFEST_NAME).unlink()
    TileStoreWriter(tmp_path).commit()
    writer = MaskWriter(TileStore.open(tmp_path), RULE)
    assert writer.todo(["a"]) == []
    assert writer.commit().tiles == tiles


def test_tiles_ingested_meanwhile_stay_and_so_do_their_masks(tmp_path: Path) -> None:
    store = store_of(tmp_path, tile("a"))
    ingest = TileStoreWriter(tmp_path)
    ingest.add(tile("b"))
    ingest.commit()
    detect = give(TileStore.open(tmp_path), "a", "b")
    ingest.add(tile("c"))
    ingest.commit()
    detect.commit()
    ingest.commit()
    manifest = TileStore.open(tmp_path).manifest
    assert {tile_id: record.masks_in_use for tile_id, record in manifest.tiles.items()} == {
        "a": RULE.layer,
        "b": RULE.layer,
        "c": "clouds",
    }
    assert store.manifest.generation == 1


def test_a_source_may_bring_masks_of_several_methods(tmp_path: Path) -> None:
    series = dataclasses.replace(tile("a"), other_clouds={"s2cloudless": masks_like("a", 1)})
    store = store_of(tmp_path, series)
    record = store.record("a")
    assert record.masks_in_use == "clouds"
    layer = next(name for name, masks in record.masks.items() if masks.origin.method == "s2cloudless")
    np.testing.assert_array_equal(store.load("a", masks=layer).series().clouds, masks_like("a", 1))
    (tmp_path / MANIFEST_NAME).unlink()
    assert TileStoreWriter(tmp_path, source="test").commit().tiles == store.manifest.tiles
    only = dataclasses.replace(series, tile_id="only", clouds=None)
    np.testing.assert_array_equal(store_of(tmp_path, only).load("only").series().clouds, masks_like("a", 1))


def test_masks_that_the_tile_lacks_are_named(tmp_path: Path) -> None:
    store = store_of(tmp_path, tile("a"))
    with refused("tile a", "clouds-rule"):
        store.load("a", masks="clouds-rule")


def test_an_ingest_anew_meanwhile_is_one_line(tmp_path: Path) -> None:
    writer = give(store_of(tmp_path, tile("a")), "a")
    (tmp_path / MANIFEST_NAME).unlink()
    with refused(str(tmp_path)):
        writer.commit()

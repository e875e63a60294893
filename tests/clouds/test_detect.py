"""Masks for a store: every tile's, once, whatever dies on the way; and the way back to those it came with."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray

from restore_dit.cli import main
from restore_dit.clouds.detect import TileMasker, plan_detection
from restore_dit.clouds.rule import rule_masks
from restore_dit.config.clouds import DetectionConfig, RuleConfig
from restore_dit.data.runner import run
from restore_dit.data.store.masks import MaskOrigin
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from restore_dit.inspection.verification import verify_store
from restore_dit.series import TileSeries
from tests.data.store.tiles import store_of, tile
from tests.messages import assert_names, refused


@pytest.fixture
def store(small_store: TileStore, tmp_path: Path) -> Path:
    """Eleven tiles of 24×24 pixels, with masks of their source."""
    return Path(shutil.copytree(small_store.uri, tmp_path / "store"))


def detect(store: Path, **options: object):
    plan = plan_detection(DetectionConfig.model_validate({"store": str(store), "workers": 0, **options}))
    return run(plan)


def test_every_tile_is_masked_once_by_the_rule(store: Path, small_store: TileStore) -> None:
    report = detect(store)
    assert (len(report.results), report.failed) == (11, {})
    assert report.committed.generation == small_store.manifest.generation + 1  # quick work is committed once
    after = TileStore.open(store)
    for tile_id in after.tile_ids:
        series = small_store.load(tile_id).series()
        np.testing.assert_array_equal(after.load(tile_id).series().clouds, rule_masks(series, RuleConfig()))
    assert verify_store(after, deep=True) == []
    again = detect(store)
    assert (len(again.results), again.committed) == (0, after.manifest)


def test_other_settings_are_other_masks_and_the_source_keeps_its_own(store: Path, small_store: TileStore) -> None:
    detect(store)
    field = next(name for name, info in RuleConfig.model_fields.items() if info.annotation is float)
    changed = detect(store, rule={field: getattr(RuleConfig(), field) * 1.25})
    assert len(changed.results) == 11
    record = changed.committed.tiles[small_store.tile_ids[0]]
    assert sorted(masks.origin.method for masks in record.masks.values()) == ["rule", "rule", "source"]
    back = detect(store, method="source")
    assert back.results == {}
    assert back.committed.fingerprint == small_store.fingerprint


def test_a_method_that_the_source_does_not_bring_is_one_line(store: Path) -> None:
    with refused(str(store), "11 of 11", "s2cloudless"):
        detect(store, method="s2cloudless")


def test_only_some_tiles(store: Path) -> None:
    first, second = TileStore.open(store).tile_ids[:2]
    assert list(detect(store, tiles=[second]).results) == [second]
    tiles = TileStore.open(store).manifest.tiles
    assert (tiles[first].masks_in_use, tiles[second].masks_in_use != "clouds") == ("clouds", True)
    with refused("'sim-x'"):
        detect(store, tiles=["sim-x"])


def test_a_damaged_tile_is_named_and_the_others_go_on(store: Path) -> None:
    tile_id = TileStore.open(store).tile_ids[4]
    file = store / "tiles" / f"{tile_id}.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    report = detect(store)
    assert (len(report.results), list(report.failed)) == (10, [tile_id])
    assert_names(report.failed[tile_id], f"{tile_id}.parquet")
    assert TileStore.open(store).record(tile_id).masks_in_use == "clouds"
    file.write_bytes(whole)
    assert list(detect(store).results) == [tile_id]


def test_a_tile_without_the_bands_gets_none_and_the_others_go_on(tmp_path: Path) -> None:
    store_of(tmp_path / "store", tile("a", bands=("B06", "B07")), tile("b"))
    report = detect(tmp_path / "store")
    assert (list(report.results), list(report.failed)) == (["b"], ["a"])
    assert TileStore.open(tmp_path / "store").record("a").masks_in_use == "clouds"


def test_a_tile_named_twice_is_masked_once(store: Path) -> None:
    first = TileStore.open(store).tile_ids[0]
    outcomes: list[str] = []
    run(
        plan_detection(DetectionConfig(store=str(store), workers=0, tiles=(first, first))),
        on_outcome=lambda outcome, done, total: outcomes.append(outcome.item),
    )
    assert outcomes == [first]


@dataclasses.dataclass
class Choosy:
    """A detector that holds tiles back as a network does, and refuses one in the middle of its work."""

    refused: str

    @property
    def origin(self) -> MaskOrigin:
        return MaskOrigin(method="network", by="choosy")

    def detect(self, tiles: Iterable[TileSeries]) -> Iterator[NDArray[np.uint8]]:
        if not self.refused:
            raise UserError("no GPU here")
        waiting = iter(tiles)
        while pair := list(itertools.islice(waiting, 2)):
            for series in pair:
                if series.tile_id == self.refused:
                    raise UserError(f"tile {series.tile_id}: too odd")
                yield np.full((len(series.optical), *series.size), 3, np.uint8)


def test_what_a_detector_refuses_in_the_middle_costs_no_other_tile(store: Path) -> None:
    ids = TileStore.open(store).tile_ids
    masker = TileMasker(TileStore.open(store), Choosy(ids[5]))  # type: ignore[arg-type]
    found = {outcome.item: outcome for outcome in masker(ids)}
    assert sorted(found) == list(ids)
    assert [name for name in ids if found[name].reason] == [ids[5]]
    assert found[ids[5]].reason == f"tile {ids[5]}: too odd"
    with refused("no GPU here"):
        list(TileMasker(TileStore.open(store), Choosy(""))(ids))  # type: ignore[arg-type]


def test_tiles_without_the_bands_are_refused_before_any_work(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", tile("a", bands=("B06", "B07")))
    with refused(f"{tmp_path}/store", "tile a", "B06"):
        detect(tmp_path / "store")
    assert list((tmp_path / "store/layers").iterdir()) == [tmp_path / "store/layers/clouds"]
    assert TileStore.open(tmp_path / "store").manifest == store.manifest


def test_an_interrupted_run_keeps_what_it_has(store: Path) -> None:
    plan = plan_detection(DetectionConfig(store=str(store), workers=0))

    def stop(_: object, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan, on_outcome=stop)
    assert len(detect(store).results) == 8


@pytest.mark.slow
def test_a_killed_run_makes_no_tile_twice_and_leaves_none_out(store: Path) -> None:
    script = """
        import os, signal, sys
        from restore_dit.clouds.detect import plan_detection
        from restore_dit.config.clouds import DetectionConfig
        from restore_dit.data.runner import run
        plan = plan_detection(DetectionConfig(store=sys.argv[1], workers=0, commit_every=0))
        def die(outcome, done, total):
            if done == 5:
                os.kill(os.getpid(), signal.SIGKILL)
        run(plan, on_outcome=die)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(store)], timeout=120)
    assert killed.returncode == -signal.SIGKILL
    committed = [record.masks_in_use for record in TileStore.open(store).manifest.tiles.values()]
    assert 1 <= len([layer for layer in committed if layer != "clouds"]) <= 5
    (layer,) = [folder for folder in (store / "layers").iterdir() if folder.name != "clouds"]
    written = {file.name: file.stat().st_mtime_ns for file in layer.glob("[!.]*.parquet")}
    assert len(written) >= 5
    report = detect(store)
    assert len(report.results) == 11 - len(written)
    assert {name: (layer / name).stat().st_mtime_ns for name in written} == written
    assert all(record.masks_in_use == layer.name for record in report.committed.tiles.values())
    assert verify_store(TileStore.open(store), deep=True) == []


def test_the_command_detects_and_compares(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect-clouds", str(store), "--workers", "0"]) == 0
    assert_names(capsys.readouterr().out, 11, "rule")
    assert main(["compare-clouds", str(store), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tiles"] == 11
    labels, masks = (
        np.concatenate([TileStore.open(store).load(name, masks=layer).series().clouds.ravel() for name in tiles])  # type: ignore[union-attr]
        for tiles in [TileStore.open(store).tile_ids]
        for layer in ("clouds", TileStore.open(store).record(tiles[0]).masks_in_use)
    )
    assert found["counts"][0][1] == ((labels == 0) & (masks == 1)).sum()
    picture = store.parent / "differ.png"
    assert (
        main(["compare-clouds", str(store), "--masks", "source", "--against", "rule", "--picture", str(picture)]) == 0
    )
    assert matplotlib.image.imread(picture).shape[1] == 1500
    assert re.search(r": \d+\.\d\d%$", capsys.readouterr().out, re.MULTILINE)
    assert main(["compare-clouds", str(store), "--masks", "network"]) == 1
    assert_names(capsys.readouterr().err, "network", "clouds (source", "(rule")


def test_bad_usage_is_one_line(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect-clouds", str(store), "--method", "network"]) == 2
    assert_names(capsys.readouterr().err, "--method network", "--weights")
    assert main(["detect-clouds", str(store), "rule.brigtness=1", "--workers", "0"]) == 2
    assert_names(capsys.readouterr().err, "rule.brigtness", "'bright'")
    assert main(["detect-clouds", str(store / "nowhere"), "--workers", "0"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["detect-clouds", str(store), "--method", "rule", "--weights", "w.pth"]) == 2
    assert_names(capsys.readouterr().err, "weights", "rule")
    assert main(["detect-clouds", str(store), "weights=w.pth", "--workers", "0"]) == 1
    assert_names(capsys.readouterr().err, "w.pth")
    assert os.listdir(store / "layers") == ["clouds"]

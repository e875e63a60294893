"""`restore-dit compare-clouds` where there is little or nothing to compare."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from restore_dit.cli import main
from restore_dit.data.store.mask_writer import MaskWriter
from restore_dit.data.store.masks import MaskOrigin
from restore_dit.data.store.tile_store import TileStore
from restore_dit.data.store.tile_writing import write_masks
from restore_dit.series import S2_BANDS, TileSeries
from tests.data.store.tiles import store_of, tile
from tests.messages import assert_names


def without_acquisitions(name: str) -> TileSeries:
    series = tile(name, tracks=())
    return replace(
        series, optical=series.optical.select(slice(0, 0)), clouds=np.empty((0, *series.size), np.uint8), layers={}
    )


@pytest.mark.parametrize("more", [(), ("--picture", "p.png"), ("--json",)])
def test_nothing_to_compare_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    store_of(Path("store"), without_acquisitions("a"), without_acquisitions("b"))
    assert main(["compare-clouds", "store", *more]) == 1
    captured = capsys.readouterr()
    assert_names(captured.err, "store", 2)
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    store_of(Path("empty"))
    assert main(["compare-clouds", "empty", *more]) == 1
    assert_names(capsys.readouterr().err, "empty", 0)
    assert not Path("p.png").exists()


def test_a_tile_without_acquisitions_costs_the_others_nothing(tmp_path: Path) -> None:
    store_of(tmp_path / "store", without_acquisitions("a"), tile("b", bands=S2_BANDS))
    picture = tmp_path / "p.png"
    assert main(["compare-clouds", str(tmp_path / "store"), "--masks", "source", "--picture", str(picture)]) == 0
    assert picture.exists()


def test_what_cannot_be_told_is_a_dash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    series = tile("a")
    store_of(tmp_path / "store", replace(series, clouds=np.full((4, 6, 5), 255, np.uint8)))
    assert main(["compare-clouds", str(tmp_path / "store")]) == 0
    text = capsys.readouterr().out
    assert text.count(": –\n") == 1
    assert "nan" not in text


def test_of_two_sets_of_one_method_each_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store_of(tmp_path / "store", tile("a", bands=S2_BANDS))
    origins = [MaskOrigin(method="rule", by=f"settings {number}") for number in (0, 1)]
    for number, origin in enumerate((*origins, MaskOrigin(method="source"))):
        store = TileStore.open(tmp_path / "store")
        series, record = store.load("a").series(), store.record("a")
        writer = MaskWriter(store, origin)
        if origin.method == "rule":
            clouds = np.full((4, 6, 5), number, np.uint8)
            writer.adopt("a", write_masks(store.location, series, clouds, origin, record))
        else:
            writer.todo(["a"])
        writer.commit()
    compare = ["compare-clouds", str(tmp_path / "store"), "--json", "--against"]
    shares = []
    for origin in origins:
        assert main([*compare, "source", "--masks", origin.layer]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["masks"] == [origin.layer]
        shares.append(np.array(found["counts"])[:, 1].sum() / np.sum(found["counts"]))
    assert shares == [0, 1]
    assert main([*compare, origins[0].layer, "--masks", origins[1].layer]) == 0
    assert np.array(json.loads(capsys.readouterr().out)["counts"])[0, 1] == 4 * 6 * 5
    assert main([*compare, "source", "--masks", "rule"]) == 1
    assert_names(capsys.readouterr().err, "rule", 2, *(origin.layer for origin in origins), "settings 1", "clouds")
    assert main([*compare, "nothing"]) == 1
    assert_names(capsys.readouterr().err, "nothing", *(origin.layer for origin in origins))

"""`restore-dit compare-clouds` where there is little or nothing to compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from restore_dit.cli import main
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

"""`restore-dit inspect` as a user meets it: tables, JSON, a picture, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from restore_dit.cli import main
from restore_dit.config import RunConfig
from restore_dit.data.store.tile_store import TileStoreWriter
from restore_dit.model.denoiser import Denoiser
from restore_dit.reconstruction.model_directory import save_model
from restore_dit.series import Acquisitions, TileSeries
from restore_dit.training.setup import set_up


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    dates = np.array(["2019-01-01", "2019-01-06"], "datetime64[D]")
    writer = TileStoreWriter("stores/site", source="test")
    for name in ("a", "b"):
        writer.add(TileSeries(name, Acquisitions(np.full((2, 1, 6, 6), 900, np.int16), dates, ("B04",))))
    writer.commit()
    return "stores/site"


def test_the_picture_lies_in_the_working_folder_under_the_stores_name(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", store, "--contact-sheet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "contact sheet: site.png\n"
    assert captured.out.startswith("tile store   stores/site\n")
    assert main(["inspect", store, "--contact-sheet", "pictures/one.png", "--tiles", "b"]) == 0
    assert (tmp_path / "site.png").stat().st_size > (tmp_path / "pictures/one.png").stat().st_size > 5_000


def test_json_is_all_that_standard_output_holds(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", store, "--json", "--verify"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["series"]["optical"]["frames"] == 4
    assert "verified 2 tiles" in captured.err


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("--tiles", "a"), 2, "--tiles means nothing without --contact-sheet"),
        (("--deep",), 2, "--deep means nothing without --verify"),
        (("--contact-sheet", "sheet.jpg"), 2, "a picture's name ends in .png"),
        (("--contact-sheet", "--tiles", "c"), 1, "no tile 'c'"),
        (("--contact-sheet", "/proc/sheet.png"), 1, "/proc/sheet.png"),
    ],
)
def test_what_it_refuses(
    store: str, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], status: int, says: str
) -> None:
    assert main(["inspect", store, *words]) == status
    error = capsys.readouterr().err.strip()
    assert says in error
    assert "\n" not in error


def test_a_model_directory_has_nothing_to_verify_or_draw(
    tmp_path: Path, small_run: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tmp_path / "m")
    weights = Denoiser(small_run.model).state_dict()
    save_model(model, small_run, weights, set_up(small_run).normalisation, {"mae": 0.5})
    for option in ("--verify", "--deep", "--contact-sheet", "--tiles=a"):
        assert main(["inspect", model, option]) == 2
        assert "a model directory, and --" in capsys.readouterr().err
    assert main(["inspect", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == {"mae": 0.5}

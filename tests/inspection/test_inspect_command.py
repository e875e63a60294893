"""`restore-dit inspect` as a user meets it: tables, JSON, a picture, and what it refuses."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from restore_dit.cli import main
from restore_dit.clouds.model_directory import save_cloud_model
from restore_dit.clouds.network.weights import build_network
from restore_dit.config import RunConfig
from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.data.store.tile_store import TileStoreWriter
from restore_dit.model.denoiser import Denoiser
from restore_dit.reconstruction.model_directory import save_model
from restore_dit.series import Acquisitions, TileSeries
from restore_dit.training.setup import set_up
from tests.data.store.tiles import store_of, tile
from tests.messages import assert_names


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
    ("words", "status", "facts"),
    [
        (("--tiles", "a"), 2, ["--tiles", "--contact-sheet", "--frames"]),
        (("--deep",), 2, ["--deep", "--verify"]),
        (("--contact-sheet", "sheet.jpg"), 2, ["sheet.jpg", ".png"]),
        (("--contact-sheet", "--tiles", "c"), 1, ["'c'"]),
        (("--contact-sheet", "/proc/sheet.png"), 1, ["/proc/sheet.png"]),
        (("--frames", "data.targets.by=both"), 2, ["data.targets.by=both", ".png"]),
        (("--frames", "--tiles", "c"), 1, ["'c'"]),
        (("--frames",), 1, ["cloud masks"]),
        (("--frames", "--tiles", "a"), 1, ["tile a", "cloud masks"]),
        (("data.targets.by=source_list",), 1, ["tile a", "data.targets.by=masks"]),
        (("data.targets.most_hiden=0.2",), 2, ["data.targets.most_hiden", "'most_hidden'"]),
        (("--config", "nowhere"), 2, ["nowhere"]),
        (("--jsn",), 2, ["--jsn"]),
    ],
)
def test_what_it_refuses(
    store: str, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], status: int, facts: list[str]
) -> None:
    try:
        found = main(["inspect", store, *words])
    except SystemExit as stop:  # argparse, after the lines of usage
        found = int(stop.code or 0)
    error = capsys.readouterr().err.strip()
    assert found == status
    assert_names(error, *facts)
    assert "\n" not in error or error.startswith("usage:")


def test_a_model_directory_has_nothing_to_verify_or_draw(
    tmp_path: Path, small_run: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tmp_path / "m")
    weights = Denoiser(small_run.model).state_dict()
    save_model(model, small_run, weights, set_up(small_run).normalisation, {"mae": 0.5})
    for option in ("--verify", "--deep", "--contact-sheet", "--frames", "--tiles=a"):
        assert main(["inspect", model, option]) == 2
        assert_names(capsys.readouterr().err, model, option.split("=")[0])
    assert main(["inspect", model, "data.targets.by=both"]) == 2
    assert_names(capsys.readouterr().err, model, "data.targets.by=both")
    assert main(["inspect", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == {"mae": 0.5}


def test_a_cloud_model_is_shown_as_models_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, config = str(tmp_path / "m"), CloudNetworkConfig(bands=("B11",), pixel_size=20)
    network = build_network(config)
    save_cloud_model(model, config, network.state_dict(), {"cloud_f1": 0.91234567, "site/cloud_f1": 0.5}, {})
    assert main(["inspect", model]) == 0
    lines = capsys.readouterr().out.splitlines()
    parameters = sum(weight.numel() for weight in network.parameters())
    assert lines[0] == "encoder: mobilenet_v2"
    assert lines[-3:] == [f"parameters: {parameters}", "cloud_f1: 0.912346", "site/cloud_f1: 0.5"]
    assert main(["inspect", model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert CloudNetworkConfig.model_validate(found["config"]) == config
    assert (found["parameters"], found["metrics"]["site/cloud_f1"]) == (parameters, 0.5)
    for word in ("--verify", "--deep", "--contact-sheet", "--frames", "--tiles=a", "network.padding=least"):
        assert main(["inspect", model, word]) == 2
        assert_names(capsys.readouterr().err, model, word.split("=")[0])
    (tmp_path / "m/model.safetensors").unlink()
    assert main(["inspect", model]) == 1
    assert_names(capsys.readouterr().err, model, "model.safetensors")


def test_frames_are_drawn_of_tiles_that_have_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first tile has no acquisition, the last one no masks."""
    monkeypatch.chdir(tmp_path)
    whole = tile("b", tracks=())
    empty = replace(whole, tile_id="a", optical=whole.optical.select(slice(0, 0)), clouds=np.empty((0, 6, 5), np.uint8))
    store_of(Path("store"), empty, whole, replace(whole, tile_id="c", clouds=None))
    assert main(["inspect", "store", "--frames"]) == 0
    assert capsys.readouterr().err == "frames: store_frames.png\n"
    store_of(Path("hollow"), empty)
    assert main(["inspect", "hollow", "--frames"]) == 1
    assert_names(capsys.readouterr().err, "hollow", 1)


def test_frames_are_decided_by_the_rule_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of four frames one is clear, one 10 % cloud, one without data and one listed as bad."""
    monkeypatch.chdir(tmp_path)
    clouds = np.zeros((4, 10, 10), np.uint8)
    clouds[1, 0], clouds[2] = 1, 255
    dates = np.datetime64("2019-01-01") + 5 * np.arange(4)
    optical = Acquisitions(np.full((4, 1, 10, 10), 900, np.int16), dates, ("B04",))
    listed = {"bad_frames": np.array([0, 0, 0, 1], np.uint8)}
    store_of(
        Path("store"), TileSeries("a", optical, clouds, layers=listed), TileSeries("b", optical, clouds, layers=listed)
    )

    def decided(*words: str) -> dict[str, int]:
        assert main(["inspect", "store", "--json", *words]) == 0
        return {
            name: count for name, count in json.loads(capsys.readouterr().out)["targets"]["frames"].items() if count
        }

    assert decided() == {"target": 4, "cloud_and_shadow": 2, "no_data": 2}
    assert decided("data.targets.most_hidden=0.1") == {"target": 6, "no_data": 2}
    assert decided("--config", "paper_pastis") == {"target": 6, "source_list": 2}
    assert decided("data.targets.by=both") == {"target": 2, "cloud_and_shadow": 2, "no_data": 2, "source_list": 2}

    assert main(["inspect", "store", "data.targets.by=both", "--frames", "--tiles", "b"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "frames: store_frames.png\n"
    assert_names(captured.out, "2 tiles", "both", "most_hidden=0.05", "most_no_data=0.05")
    assert re.search(r"^cloud and shadow +2 +25\.0% █████$", captured.out, re.MULTILINE)
    assert_names(captured.out, "min 1", "median 1", "max 1")
    assert (tmp_path / "store_frames.png").stat().st_size > 5_000


def test_tiles_without_masks_or_without_a_target_are_named(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", store]) == 0
    text = capsys.readouterr().out
    assert_names(text, "0 tiles", "a, b")
    hidden = TileSeries(
        "c",
        Acquisitions(np.full((1, 1, 4, 4), 900, np.int16), np.array(["2019-01-01"], "datetime64[D]"), ("B04",)),
        np.full((1, 4, 4), 3, np.uint8),
    )
    store_of(tmp_path / "dark", hidden)
    assert main(["inspect", str(tmp_path / "dark")]) == 0
    assert "no target: c\n" in capsys.readouterr().out

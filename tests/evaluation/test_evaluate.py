"""The protocols on a small store: what is hidden, what is scored, what is written."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from restore_dit.config import RunConfig, TargetConfig
from restore_dit.config.jobs import EvaluationConfig, SamplingConfig
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.data.examples.maker import ExampleMaker
from restore_dit.data.examples.split import split_tiles
from restore_dit.evaluation.evaluate import evaluate
from restore_dit.evaluation.metrics import PUBLISHED_SCALE
from restore_dit.evaluation.protocols import trials
from restore_dit.model.denoiser import Denoiser
from restore_dit.reconstruction.model_directory import save_model
from restore_dit.training.setup import set_up
from tests.messages import refused


@pytest.fixture(scope="module")
def untrained(small_run: RunConfig, tmp_path_factory) -> str:
    """A model that has learned nothing, and so interpolates."""
    folder = str(tmp_path_factory.mktemp("untrained") / "model")
    save_model(folder, small_run, Denoiser(small_run.model).state_dict(), set_up(small_run).normalisation, {})
    return folder


def settings(model: str, store, tmp_path: Path, **changes) -> EvaluationConfig:
    return EvaluationConfig(model=model, store=store.uri, output=str(tmp_path / "out"), figures=1, **changes)


@pytest.mark.parametrize("protocol", ["paper", "missing-frame"])
def test_an_untrained_model_scores_as_linear_interpolation(untrained, small_store, tmp_path, protocol):
    report = evaluate(settings(untrained, small_store, tmp_path, protocol=protocol))
    for scale in report.scales:
        model, linear = report.methods["RESTORE-DiT"][scale], report.methods["linear"][scale]
        assert model.missing.mae == pytest.approx(linear.missing.mae, rel=1e-3)
        assert model.observed.mae in (0, None)
    split = split_tiles(dict.fromkeys(small_store.tile_ids), settings_split(untrained), 0)
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["facts"]["tiles"] == str(len(split.test))
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".csv", ".md", ".png"}
    assert report.best_baseline == content["facts"]["best baseline"]
    assert report.comparisons["RESTORE-DiT"].below_linear == 0
    check_frames(report, tmp_path / "out" / "frames.csv", alone=protocol == "missing-frame")


def check_frames(report, file: Path, alone: bool):
    """That the frames of frames.csv add up to the report."""
    series: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for line in csv.DictReader(file.read_text().splitlines()):
        key = (line["method"], line["tile"], line["date"] if alone else "")
        series.setdefault(key, []).append(line)
    for method, averages in report.methods.items():
        pooled = [
            sum(float(line["squared_error_sum"]) for line in own) / sum(int(line["missing_pixels"]) for line in own)
            for key, own in series.items()
            if key[0] == method
        ]
        psnr = -10 * np.log10(pooled)
        assert np.mean(psnr) == pytest.approx(averages[PUBLISHED_SCALE].missing.psnr)


def settings_split(model: str):
    from restore_dit.reconstruction.model_directory import load_model

    return load_model(model).config.data.split


def test_the_paper_hides_the_tile_s_own_first_masks(small_run, small_store):
    tile = DecodedTile(small_store.load(small_store.tile_ids[2]).series())
    maker = ExampleMaker(small_run.data, small_run.model.bands, 0)
    (trial,) = trials(EvaluationConfig(), maker, tile)
    clear_share = (tile.clouds.values == 0).mean(axis=(1, 2))
    np.testing.assert_array_equal(trial.frames, np.flatnonzero(clear_share >= 0.9))
    np.testing.assert_array_equal(trial.gaps, tile.clouds.values[: len(trial.frames)] != 0)


def test_a_missing_frame_is_hidden_whole_and_scored_alone(small_run, small_store):
    tile = DecodedTile(small_store.load(small_store.tile_ids[2]).series())
    maker = ExampleMaker(small_run.data, small_run.model.bands, 0)
    config = EvaluationConfig(protocol="missing-frame", hidden_frames=3, sampling=SamplingConfig(seed=1))
    found = list(trials(config, maker, tile))
    assert len(found) == 3
    for trial in found:
        assert trial.gaps.all(axis=(1, 2)).nonzero()[0].tolist() == trial.scored.tolist()
        assert trial.gaps.any(axis=(1, 2)).sum() == 1


def test_a_store_without_the_list_that_a_model_was_trained_by_is_scored_by_masks(
    small_run: RunConfig, small_store, tmp_path, tmp_path_factory
):
    listed = small_run.model_copy(
        update={"data": small_run.data.model_copy(update={"targets": TargetConfig(by="source_list")})}
    )
    model = str(tmp_path_factory.mktemp("listed") / "model")
    save_model(model, listed, Denoiser(listed.model).state_dict(), set_up(small_run).normalisation, {})
    with refused("targets.by=masks"):
        evaluate(settings(model, small_store, tmp_path))
    by_masks = evaluate(settings(model, small_store, tmp_path, targets=small_run.data.targets, tiles=1))
    assert by_masks.facts["tiles"] == "1"


def test_refusals(untrained, small_store, tmp_path):
    with refused(str(tmp_path), "tile store"):
        evaluate(settings(untrained, small_store, tmp_path).model_copy(update={"store": str(tmp_path)}))
    with refused(str(tmp_path), "model.safetensors"):
        evaluate(settings(str(tmp_path), small_store, tmp_path))

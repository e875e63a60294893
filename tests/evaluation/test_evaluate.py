"""The protocols on a small store: what is hidden, what is scored, what is written."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from restore_dit.config import RunConfig, TargetConfig
from restore_dit.config.jobs import EvaluationConfig, SamplingConfig
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.data.examples.maker import ExampleMaker
from restore_dit.data.examples.plan import split_tiles
from restore_dit.data.simulation import simulate_tiles
from restore_dit.data.store.mask_writer import MaskWriter
from restore_dit.data.store.masks import SOURCE_CLOUDS, MaskOrigin
from restore_dit.data.store.tile_store import TileStore, TileStoreWriter
from restore_dit.data.store.tile_writing import write_masks
from restore_dit.evaluation.evaluate import evaluate
from restore_dit.evaluation.metrics import PUBLISHED_SCALE
from restore_dit.evaluation.protocols import trials
from restore_dit.model.denoiser import Denoiser, build_denoiser
from restore_dit.reconstruction.model_directory import save_model
from restore_dit.series import CLEAR, S2_BANDS, Acquisitions
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


@pytest.mark.slow
def test_a_second_model_is_scored_on_the_same_frames(untrained, pixels_run, small_store, tmp_path):
    """Here an untrained network of pixels, which begins near kriging, beside one that interpolates."""
    place = str(tmp_path / "kriging")
    save_model(place, pixels_run, build_denoiser(pixels_run.model).state_dict(), set_up(pixels_run).normalisation, {})
    alone = evaluate(settings(untrained, small_store, tmp_path))
    report = evaluate(settings(untrained, small_store, tmp_path, beside=place))
    name = f"beside: {place}"
    assert set(report.methods) == {*alone.methods, name}
    assert report.methods["RESTORE-DiT"] == alone.methods["RESTORE-DiT"]
    assert report.best_baseline == alone.best_baseline
    psnr = report.missing_psnr
    assert abs(psnr[name] - psnr["kriging"]) < 1.5
    assert psnr[name] != psnr["RESTORE-DiT"]
    assert report.comparisons[name].gain == pytest.approx(psnr[name] - psnr[report.best_baseline])
    few = pixels_run.model_copy(update={"model": pixels_run.model.model_copy(update={"bands": S2_BANDS[:4]})})
    save_model(place, few, build_denoiser(few.model).state_dict(), set_up(few).normalisation, {})
    with refused(place, "B12"):
        evaluate(settings(untrained, small_store, tmp_path, beside=place))


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


def test_bands_without_any_index_get_strips_alone(pixels_run: RunConfig, small_store, tmp_path):
    """A model that takes any bands meets series that show no vegetation index."""
    writer = TileStoreWriter(tmp_path / "few", source="few")
    for tile_id in small_store.tile_ids[:2]:
        series = small_store.load(tile_id).series()
        few = Acquisitions(series.optical.values[:, [0, 1, 8]], series.optical.dates, ("B02", "B03", "B11"))
        writer.add(replace(series, optical=few))
    writer.commit()
    model = str(tmp_path / "model")
    save_model(model, pixels_run, build_denoiser(pixels_run.model).state_dict(), set_up(pixels_run).normalisation, {})
    evaluate(EvaluationConfig(model=model, store=str(tmp_path / "few"), output=str(tmp_path / "out"), part="all"))
    names = {path.name for path in (tmp_path / "out").iterdir() if path.suffix == ".png"}
    assert names == {f"{tile_id}_strips.png" for tile_id in small_store.tile_ids[:2]}


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


@pytest.mark.slow
def test_frames_must_be_clear_by_their_source_too(small_run, untrained, tmp_path):
    """Masks in use that call everything clear, beside the source's: a frame that those call cloudy is no target, and
    what they hide in another is unknown."""
    store = masked_anew(small_run, tmp_path / "store")
    targets = small_run.data.targets
    by_use = evaluate(settings(untrained, store, tmp_path, part="all", tiles=3, targets=targets))
    assert by_use.missing_share == 0
    assert by_use.best_baseline is None
    both = targets.model_copy(update={"also_by_source": True})
    config = settings(untrained, store, tmp_path, part="all", tiles=3, targets=both, protocol="missing-frame")
    report = evaluate(config.model_copy(update={"hidden_frames": 100}))
    lines = list(csv.DictReader((tmp_path / "out" / "frames.csv").read_text().splitlines()))
    expected = []
    for tile_id in store.tile_ids[:3]:
        tile = store.load(tile_id, layers=(SOURCE_CLOUDS,))
        clear = (tile.source_clouds.decode() == CLEAR).sum(axis=(1, 2))
        targets = np.flatnonzero(clear >= 0.9 * 24 * 24)
        expected += [(tile_id, str(tile.optical.dates[frame]), str(clear[frame])) for frame in targets]
    found = [(line["tile"], line["date"], line["missing_pixels"]) for line in lines if line["method"] == "linear"]
    assert found == expected
    assert report.facts["targets"].endswith("also_by_source=True")


def masked_anew(small_run: RunConfig, folder: Path) -> TileStore:
    """A copy of the run's store whose masks in use call everything clear."""
    shutil.copytree(small_run.data.store, folder)
    store = TileStore.open(folder)
    origin = MaskOrigin(method="rule", by="blind")
    writer = MaskWriter(store, origin)
    for tile_id in writer.todo(store.tile_ids):
        series = store.load(tile_id).series()
        clear = np.zeros_like(series.clouds)
        writer.adopt(tile_id, write_masks(store.location, series, clear, origin, store.record(tile_id)))
    writer.commit()
    return TileStore.open(folder)


def test_a_tile_without_masks_of_its_source_is_refused(small_run, untrained, tmp_path):
    writer = TileStoreWriter(tmp_path / "store")
    for series in simulate_tiles(SimulationConfig(height=24, width=24, days=60), 3, range(1)):
        writer.add(replace(series, clouds=None, other_clouds={"s2cloudless": series.clouds}))
    writer.commit()
    store = TileStore.open(tmp_path / "store")
    targets = small_run.data.targets.model_copy(update={"also_by_source": True})
    with refused(store.tile_ids[0], "targets.also_by_source=false"):
        evaluate(settings(untrained, store, tmp_path, part="all", targets=targets))


@pytest.mark.slow
def test_tiles_that_training_saw_are_told(small_run, small_store, untrained, tmp_path):
    """By the split of a model that does not say what it has seen, by content where it does, at another address too."""
    setup = set_up(small_run)
    seen = len(setup.split.train) + len(setup.split.validation)
    recorded = str(tmp_path / "model")
    weights = Denoiser(small_run.model).state_dict()
    save_model(recorded, small_run, weights, setup.normalisation, {}, setup.training_data)
    shutil.copytree(small_store.uri, tmp_path / "copy")
    copy = TileStore.open(tmp_path / "copy")
    for model, store, expected in (
        (untrained, small_store, f"{seen} of 11 tiles"),
        (untrained, copy, "unknown"),
        (recorded, copy, f"{seen} of 11 tiles"),
    ):
        lines: list[str] = []
        report = evaluate(settings(model, store, tmp_path, part="all"), warn=lines.append)
        assert report.facts["seen in training"] == expected
        assert len(lines) == (expected != "unknown")
    lines = []
    assert "seen in training" not in evaluate(settings(recorded, copy, tmp_path), warn=lines.append).facts
    assert not lines


def test_refusals(untrained, small_store, tmp_path):
    with refused(str(tmp_path), "tile store"):
        evaluate(settings(untrained, small_store, tmp_path).model_copy(update={"store": str(tmp_path)}))
    with refused(str(tmp_path), "model.safetensors"):
        evaluate(settings(str(tmp_path), small_store, tmp_path))

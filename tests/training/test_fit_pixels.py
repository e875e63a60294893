"""A network of pixels through the same fit, the same reconstruction and the same evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from restore_dit.config import RunConfig
from restore_dit.config.jobs import EvaluationConfig
from restore_dit.data.examples.batch import to_batch
from restore_dit.evaluation.evaluate import evaluate
from restore_dit.model.denoiser import build_denoiser
from restore_dit.model.pixel_denoiser import PixelDenoiser
from restore_dit.reconstruction.gap_free import fill_gaps
from restore_dit.reconstruction.model_directory import Model, load_model
from restore_dit.reconstruction.probes import PARTLY, WHOLE
from restore_dit.reconstruction.reconstruct import reconstruct
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import UNCERTAINTY, Acquisitions
from restore_dit.training.run import ObjectiveModule, pixels_to_learn_from, run_training
from restore_dit.training.setup import set_up
from tests.messages import refused

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def trained(pixels_run: RunConfig) -> Model:
    assert run_training(pixels_run, QUIET).finished
    return load_model(str(Path(pixels_run.output, pixels_run.name, "model")))


def test_what_was_trained_is_what_is_loaded(trained: Model, pixels_run: RunConfig):
    assert isinstance(trained.denoiser, PixelDenoiser)
    assert trained.config == pixels_run
    assert trained.normalisation.radar_channels == ("VV", "VH")
    assert trained.metrics["validation_psnr_missing"] > 15


@pytest.mark.slow
def test_a_longer_training_fits_better(pixels_run: RunConfig):
    config = pixels_run.model_copy(
        update={
            "name": "longer",
            "training": pixels_run.training.model_copy(update={"epochs": 20, "validate_every": 40, "save_every": 40}),
        }
    )
    assert run_training(config, QUIET).finished
    lines = Path(config.output, "longer", "logs", "metrics.jsonl").read_text().splitlines()
    losses = [line["loss"] for line in map(json.loads, lines) if "loss" in line]
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:5])


def test_any_three_bands_and_any_radar_are_taken(trained: Model, small_store):
    series = small_store.load(small_store.tile_ids[0]).series()
    few = Acquisitions(series.optical.values[:, [2, 3, 8]], series.optical.dates, ("B04", "B05", "B11"))
    for radar in ({}, {"S1D": series.radar["S1D"]}):
        given = replace(series, optical=few, radar=radar)
        filled, gaps, *_ = fill_gaps(trained, given, SamplingOptions())
        assert filled.optical.bands == ("B04", "B05", "B11")
        shown = ~gaps[:, None].repeat(3, axis=1)
        np.testing.assert_array_equal(filled.optical.values[shown], few.values[shown])
        assert (filled.optical.values >= 0).all()
    two = Acquisitions(few.values[:, :2], few.dates, few.bands[:2])
    with refused("3 of"):
        fill_gaps(trained, replace(series, optical=two), SamplingOptions())


@pytest.mark.slow
def test_a_long_series_is_filled_at_once_and_its_seed_does_not_matter(trained: Model, small_store):
    series = small_store.load(small_store.tile_ids[1]).series()
    frames, gaps = np.arange(len(series.optical)), series.missing()
    calls: list[tuple[int, int]] = []
    first = reconstruct(trained, series, frames, gaps, SamplingOptions(seed=1), lambda *done: calls.append(done))
    tried = len(calls) - 1
    assert 4 <= tried <= 4 * WHOLE + PARTLY
    assert calls == [(done, tried + 1) for done in range(1, tried + 2)]
    calls.clear()
    options = SamplingOptions(calibrate=False)
    reconstruct(trained, series, frames, gaps, options, lambda *done: calls.append(done))
    assert calls == [(1, 1)]
    other = reconstruct(trained, series, frames, gaps, SamplingOptions(seed=2))
    np.testing.assert_allclose(
        first, other, atol=1e-5
    )  # the last step is almost pure noise, which tells almost nothing
    texture = [reconstruct(trained, series, frames, gaps, SamplingOptions(steps=4, seed=seed)) for seed in (1, 2)]
    assert np.abs(texture[0] - texture[1])[gaps[:, None].repeat(10, axis=1)].max() > 1e-4


def test_it_is_evaluated_beside_the_baselines(trained: Model, small_store, tmp_path: Path):
    report = evaluate(
        EvaluationConfig(
            model=trained.origin, store=small_store.uri, output=str(tmp_path), part="all", tiles=2, figures=0
        )
    )
    scores = {name: of_scales["reflectance"].missing.psnr for name, of_scales in report.methods.items()}
    assert scores["RESTORE-DiT"] > scores["last"]


def test_pixels_to_learn_from_have_something_to_learn(pixels_run: RunConfig):
    setup = set_up(pixels_run)
    planned = setup.plan.step(0)
    columns = setup.maker.training(setup.reader.all([entry.tile_id for entry in planned]), planned)
    batch = to_batch(columns, setup.normalisation)
    chosen = pixels_to_learn_from(batch, 40)
    useful = torch.from_numpy(columns["gap_mask"] & columns["valid"]).any(dim=1).flatten(1)
    for pixels, pays in zip(chosen, useful, strict=True):
        assert len(set(pixels.tolist())) == 40
        assert pays[pixels].sum() == min(40, int(pays.sum()))
    torch.testing.assert_close(chosen, pixels_to_learn_from(batch, 40))


def test_padding_that_no_example_needs_changes_no_loss(pixels_run: RunConfig):
    setup = set_up(pixels_run)
    planned = setup.plan.step(1)
    columns = setup.maker.training(setup.reader.all([entry.tile_id for entry in planned]), planned)
    whole, shorter = (to_batch(columns, setup.normalisation, keep_padding=keep) for keep in (True, False))
    longest = columns["frame_mask"].sum(axis=1).max()
    assert shorter.target.shape[1] == longest < whole.target.shape[1]
    torch.testing.assert_close(shorter.noise(), whole.noise()[:, :longest])
    torch.manual_seed(0)
    module = ObjectiveModule(build_denoiser(pixels_run.model), pixels_run.diffusion, "fp32", pixels_run.data.pixels)
    with torch.no_grad():
        torch.testing.assert_close(module(shorter), module(whole), rtol=1e-4, atol=0)


def test_what_is_filled_has_a_deviation_and_what_is_observed_none(trained: Model, small_store):
    series = small_store.load(small_store.tile_ids[0]).series()
    for steps in (1, 3):
        filled, gaps, *_ = fill_gaps(trained, series, SamplingOptions(steps=steps))
        deviation = filled.layers[UNCERTAINTY]
        assert deviation.shape == filled.optical.values.shape
        hidden = gaps[:, None].repeat(10, axis=1)
        assert (deviation[hidden] > 0).all()
        assert (deviation[~hidden] == 0).all()

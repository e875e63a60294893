"""Gradient-boosted trees on the inputs of the pixel network: a baseline that a network must beat to justify its
training.

For each band, boosting learns the departure of the ground from the kriged value, pixel by pixel, from simulated tiles
that are drawn as in the training of the preset `default`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from torch import Tensor

from restore_dit.config import ModelConfig, RunConfig, SplitConfig
from restore_dit.config.presets import default
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.examples.batch import Batch, to_batch
from restore_dit.data.loader import step_batches
from restore_dit.data.randomness import generator
from restore_dit.data.runner import run
from restore_dit.data.simulation.simulate import plan_simulation
from restore_dit.model.conditioning import Conditioning
from restore_dit.model.evidence import in_a_row
from restore_dit.model.pixel_denoiser import Estimate, PixelDenoiser, evidence_of
from restore_dit.reconstruction.model_directory import Model
from restore_dit.training.setup import TrainingSetup, set_up

ROUNDS = 150

SIDE = 16
"""Side length of an example in pixels; tiles have twice that, so that some examples can be averaged to 20 m pixels."""

CERTAIN = 1e-4
"""Standard deviation of all answers: so small that linear interpolation never takes their place."""

VALUES_AN_EXAMPLE = 100
"""Random hidden pixel-dates used per example; more would be redundant, because neighbours are similar."""


@dataclass(frozen=True)
class FittedTrees:
    """A fitted model, the number of `tiles` and `values` (pixel-dates) it was fitted to, and the `seconds` that this
    took, including the making of examples but not the simulation."""

    model: Model
    tiles: int
    values: int
    seconds: float


@dataclass(frozen=True)
class Lesson:
    """Training data of N hidden pixel-dates: `inputs` float32 [N, F] from `PixelDenoiser.token_inputs`, `departures`
    float32 [N, C] of the ground from kriging on the network's scale, and `known` [N, C], true where these exist."""

    inputs: NDArray[np.float32]
    departures: NDArray[np.float32]
    known: NDArray[np.bool_]


class BoostedTrees(PixelDenoiser):
    """The pixel denoiser with trees instead of networks: kriging plus the prediction of one of the `boosters` per
    band."""

    def __init__(self, config: ModelConfig, boosters: Sequence[HistGradientBoostingRegressor]) -> None:
        super().__init__(config)
        self.boosters = boosters

    @torch.no_grad()
    def estimate(self, noisy: Tensor, step: Tensor, conditioning: Conditioning) -> Estimate:
        """Mean and `CERTAIN`, [B, T, C, H, W]. Where nothing is hidden, the mean is the kriged value, which is never
        used."""
        inputs, kriged = inputs_and_kriging(self, conditioning)
        gaps, bands = conditioning.gap_mask, conditioning.band_mask
        assert gaps is not None
        assert bands is not None
        hidden = in_a_row(gaps)[:, :, 0, 0].transpose(1, 2)  # [B, P, T]
        mean = kriged[:, :, :, 0].permute(0, 3, 1, 2).clone()  # [B, P, T, C]
        for index, series in enumerate(inputs):
            rows = series[hidden[index]].numpy()
            for band in bands[index].nonzero()[:, 0].tolist() if len(rows) else []:
                added = torch.from_numpy(self.boosters[band].predict(rows)).to(mean.dtype)
                mean[index, :, :, band][hidden[index]] += added
        mean = mean.clamp(-1, 1).permute(0, 2, 3, 1).reshape(noisy.shape)
        return Estimate(mean, torch.full_like(mean, CERTAIN))


def fit_trees(folder: Path, tiles: int, seed: int) -> FittedTrees:
    """Fits trees to `tiles` simulated tiles, which are stored below `folder` and simulated if missing. Equal seeds give
    equal trees."""
    setup = set_up(_configuration(_simulated(folder / f"trees-{tiles}-{seed}", tiles, seed), seed))
    begin = time.perf_counter()
    network = PixelDenoiser(setup.config.model)
    lesson = _joined([_lesson(network, batch, seed) for batch in _batches(setup)])
    boosters = []
    for band in range(len(setup.config.model.bands)):
        # Early stopping would validate on the same pixels and dates that it trains on, and so never stop.
        booster = HistGradientBoostingRegressor(max_iter=ROUNDS, early_stopping=False, random_state=seed)
        known = lesson.known[:, band]
        boosters.append(booster.fit(lesson.inputs[known], lesson.departures[known, band]))
    denoiser = BoostedTrees(setup.config.model, boosters).eval()
    model = Model(denoiser, setup.config, setup.normalisation, training_data=setup.training_data)
    return FittedTrees(model, len(setup.plan.tile_ids), len(lesson.inputs), time.perf_counter() - begin)


@torch.no_grad()
def inputs_and_kriging(network: PixelDenoiser, conditioning: Conditioning) -> tuple[Tensor, Tensor]:
    """The input features of each pixel and date, [B, P, T, F], and the kriged values, [B, T, C, 1, P]."""
    evidence = (conditioning.evidence or evidence_of(conditioning)).map(in_a_row)
    dates, bands = conditioning.optical_dates, conditioning.band_mask
    assert dates is not None
    assert bands is not None
    return network.token_inputs(evidence, torch.zeros_like(evidence.kriged), dates, bands), evidence.kriged


def _configuration(store: str, seed: int) -> RunConfig:
    """The preset `default` on all tiles of a store, with smaller examples."""
    config = default()
    split = SplitConfig(test_fraction=0, validation_fraction=0)
    data = config.data.model_copy(update={"store": store, "crop": SIDE, "split": split})
    return config.model_copy(update={"data": data, "seed": seed})


def _simulated(place: Path, tiles: int, seed: int) -> str:
    """The URI of a store of varied simulated tiles, simulated if missing."""
    config = SimulationConfig(height=2 * SIDE, width=2 * SIDE, varied=True)
    run(plan_simulation(config, place, seed, range(tiles)))
    return str(place)


def _batches(setup: TrainingSetup) -> Iterator[Batch]:
    """The batches of one epoch."""
    config = setup.config
    steps = step_batches(setup.plan, setup.reader, setup.maker, 0, setup.plan.steps_per_epoch, config.micro_batch_size)
    for micro_batches in steps:
        yield from (to_batch(columns, setup.normalisation) for columns in micro_batches)


def _lesson(network: PixelDenoiser, batch: Batch, seed: int) -> Lesson:
    """A sample of a batch's hidden pixel-dates with known ground, without the examples that pad a short batch."""
    inputs, kriged = inputs_and_kriging(network, batch.conditioning)
    gaps, bands = batch.conditioning.gap_mask, batch.conditioning.band_mask
    assert gaps is not None
    assert bands is not None
    departures = (in_a_row(batch.target) - kriged)[:, :, :, 0].permute(0, 3, 1, 2).flatten(1, 2)  # [B, P·T, C]
    scored = in_a_row(gaps & batch.valid)[:, :, 0, 0].transpose(1, 2).flatten(1)  # [B, P·T]
    parts = []
    for index, (tile_id, draw) in enumerate(batch.examples):
        if not batch.weight[index]:
            continue
        values = scored[index].nonzero()[:, 0].numpy()
        chosen = generator(seed, "values", tile_id, draw).permutation(values)[:VALUES_AN_EXAMPLE]
        parts.append(
            Lesson(
                inputs[index].flatten(0, 1)[chosen].numpy(),
                departures[index][chosen].numpy(),
                bands[index].expand(len(chosen), -1).numpy(),
            )
        )
    return _joined(parts)


def _joined(lessons: Sequence[Lesson]) -> Lesson:
    return Lesson(
        np.concatenate([lesson.inputs for lesson in lessons]),
        np.concatenate([lesson.departures for lesson in lessons]),
        np.concatenate([lesson.known for lesson in lessons]),
    )

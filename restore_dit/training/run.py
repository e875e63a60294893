"""The denoiser as a task of the trainer: the module that is trained, from a batch to its weighted loss, and a whole
run, in this process or on Ray."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from restore_dit.config import DiffusionConfig, RunConfig
from restore_dit.data import loader
from restore_dit.data.examples.batch import Batch, pinned, to_batch, without_padding
from restore_dit.diffusion.objective import training_loss
from restore_dit.diffusion.prediction import Prediction, loss_weights
from restore_dit.diffusion.schedule import training_steps
from restore_dit.model.denoiser import AnyDenoiser, build_denoiser
from restore_dit.reconstruction.model_directory import load_model, save_model
from restore_dit.threads import cpu_quota
from restore_dit.trainer.monitor import LocalMonitor, Sink
from restore_dit.trainer.run import RunResult, fit_here, run_task
from restore_dit.trainer.task import Steps, Task, Validation, Weights
from restore_dit.training.setup import TrainingSetup, set_up
from restore_dit.training.validation import validate


class ObjectiveModule(nn.Module):
    """Weighted sum of the losses of a batch's examples; for pixel networks, over `pixels` random pixels of each example
    (None: all).

    bf16 runs the forward pass under autocast: the parameters that the optimiser updates stay fp32, so there is no
    second, rounded copy of the weights to keep in sync.
    """

    loss_weights: Tensor

    def __init__(
        self,
        denoiser: AnyDenoiser,
        diffusion: DiffusionConfig,
        precision: str,
        pixels: int | None = None,
    ) -> None:
        super().__init__()
        self.pixels = pixels
        self.network = denoiser
        self.diffusion = diffusion
        self.precision = precision
        self.prediction = Prediction.from_config(diffusion)
        self.register_buffer("loss_weights", loss_weights(diffusion, self.prediction), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Weighted sum of losses, a scalar in fp32."""
        device, conditioning = batch.target.device, batch.conditioning
        if self.pixels is not None:
            conditioning = replace(conditioning, pixels=pixels_to_learn_from(batch, self.pixels))
        step = training_steps(batch.quantile, self.prediction.schedule, self.diffusion)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            losses = training_loss(
                self.network,
                batch.target,
                batch.noise(),
                step,
                conditioning,
                batch.valid,
                self.prediction,
                self.diffusion,
                batch.veiled,
            )
        return (losses.float() * self.loss_weights[step] * batch.weight).sum()


def pixels_to_learn_from(batch: Batch, count: int) -> Tensor:
    """Indices [B, count] of `count` pixels of each example in row-major order, drawn with the example's own seed;
    pixels without anything to learn from are taken last."""
    gaps = batch.conditioning.gap_mask
    assert gaps is not None
    useful = (gaps & batch.valid).any(dim=1).flatten(1)
    order = torch.empty(useful.shape)
    for index, seed in enumerate(batch.noise_seed.tolist()):
        order[index].uniform_(generator=torch.Generator().manual_seed(seed))
    order = order.to(useful.device) + useful
    return order.topk(min(count, order.shape[1]), dim=1).indices


MAX_THREADS = 8
"""Maximum number of threads that make examples for a GPU in this process."""


class DenoiserTask(Task):
    """The training of a denoiser."""

    sections = ("training.", "workers.")

    def __init__(self, setup: TrainingSetup) -> None:
        config = setup.config
        self.setup = setup
        self.name, self.seed, self.folder = config.name, config.seed, setup.folder
        self.fingerprint, self.tracking = setup.store_fingerprint, config.tracking
        self.config, self.use_gpu = config.training, config.workers.use_gpu
        self.total_steps, self.steps_per_epoch = setup.total_steps, setup.plan.steps_per_epoch
        self.micro_batch_size = config.micro_batch_size
        self.has_validation = bool(setup.validation)

    def claim(self) -> None:
        """Starts the run in its folder, or continues it."""
        super().claim()
        self.setup.keep_initial_model()

    def notices(self) -> list[str]:
        """Tiles that are left out, and a missing validation."""
        lines = []
        left_out = self.setup.left_out
        if left_out:
            names = ", ".join(left_out[:3]) + (", …" if len(left_out) > 3 else "")
            lines.append(f"left out {len(left_out)} tiles without a frame that may be a target: {names}")
        if not self.has_validation:
            lines.append("no validation: the model with the lowest training loss will be kept")
        return lines

    def build(self) -> nn.Module:
        """The denoiser and its objective."""
        config = self.setup.config
        denoiser = build_denoiser(config.model, activation_checkpointing=self.config.activation_checkpointing)
        if self.config.compile:
            denoiser.compile()
        return ObjectiveModule(denoiser, config.diffusion, self.config.precision, config.data.pixels)

    def initial_weights(self) -> Weights | None:
        """The weights of `training.init_from`, if it is set."""
        place = self.setup.init_from
        return None if place is None else load_model(place).denoiser.state_dict()

    def batches(self, start: int, stop: int) -> Steps:
        """The planned examples as stacked columns. For a GPU, several threads make them in page-locked memory."""
        setup = self.setup
        for_gpu: Any = {"threads": prefetch_threads(), "prepare": self._for_gpu} if self.use_gpu else {}
        return loader.step_batches(setup.plan, setup.reader, setup.maker, start, stop, self.micro_batch_size, **for_gpu)

    def to_device(self, micro_batch: dict[str, Any], device: torch.device) -> Batch:
        """The batch on the network's scale."""
        config = self.setup.config
        return to_batch(
            micro_batch,
            self.setup.normalisation,
            mask_padding=config.data.mask_padding,
            keep_padding=self._keeps_padding,
            device=device,
        )

    def weight_of(self, step: int) -> float:
        """Number of examples of the step that are not padding."""
        return sum(entry.weight for entry in self.setup.plan.step(step))

    def logged(self, micro_batch: dict[str, Any]) -> list[tuple[str, int, float]]:
        """(tile, draw, weight) of each example."""
        columns = (micro_batch[name].tolist() for name in ("tile_id", "draw", "weight"))
        return list(zip(*columns, strict=True))

    def validate(self, weights: Weights, device: torch.device) -> Validation:
        """Scores of the filled validation examples."""
        denoiser = build_denoiser(self.setup.config.model)
        denoiser.load_state_dict(weights)
        return validate(self.setup, denoiser.to(device))

    def save(self, weights: Weights, metrics: dict[str, float]) -> None:
        """Writes the model directory."""
        setup = self.setup
        save_model(self.folder.model, setup.config, weights, setup.normalisation, metrics, setup.training_data)

    @property
    def _keeps_padding(self) -> bool:
        return self.setup.config.model.network == "patches"

    def _for_gpu(self, columns: dict[str, Any]) -> dict[str, Any]:
        return pinned(columns if self._keeps_padding else without_padding(columns))


def prefetch_threads() -> int:
    """Number of threads that make examples while a GPU computes: the CPUs but one, which launches its kernels."""
    cpus = math.ceil(min(len(os.sched_getaffinity(0)), cpu_quota()))
    return max(1, min(cpus - 1, MAX_THREADS))


def run_training(
    config: RunConfig,
    console: Console,
    sinks: Sequence[Sink] = (),
    *,
    should_stop: Callable[[], bool] = lambda: False,
    decoded: Any = None,
) -> RunResult:
    """Trains until the end or until Ctrl-C: with `workers.count` 0 in this process, otherwise on Ray.

    Args:
        sinks: destinations of reports besides the terminal, the run's logs and the tracking server; closed at the end.
        should_stop: polled after every step, or twice a second with workers; true has the same effect as Ctrl-C.
        decoded: with workers, the tiles in Ray's object store (`stream.cache_decoded`); None to follow
            `data.cache_decoded`.

    Raises:
        UserError: any error that the user can fix, before computation starts where possible.
    """
    with ExitStack() as closing:
        for sink in sinks:
            closing.callback(sink.close)
        task = DenoiserTask(set_up(config))

        def train(monitor: LocalMonitor) -> bool:
            return fit_on_cluster(task, monitor, decoded) if config.workers.count else fit_here(task, monitor)

        return run_task(task, console, sinks, should_stop=should_stop, train=train)


def fit_on_cluster(task: DenoiserTask, monitor: LocalMonitor, decoded: Any = None) -> bool:
    """Trains on `workers.count` Ray Train workers, with examples streamed through Ray Data, and returns whether the run
    is finished. `decoded` holds the store's tiles if they are already in Ray's object store."""
    from restore_dit.data import stream
    from restore_dit.trainer import ray_train

    setup, workers = task.setup, task.setup.config.workers

    def batches() -> ray_train.RankBatches:
        tiles = decoded
        if tiles is None and setup.config.data.cache_decoded:
            tiles = stream.cache_decoded(setup.reader, setup.plan.tile_ids, workers.data_cpus)
        return stream.worker_batches(setup.plan, setup.reader, setup.maker, task.micro_batch_size, workers, tiles)

    return ray_train.fit_on_cluster(task, workers, monitor, batches)

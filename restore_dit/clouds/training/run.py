"""A cloud-detection network as a task of the trainer, and a whole run of it, from stores of labelled tiles to a model
directory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from restore_dit.clouds.model_directory import load_cloud_model, save_cloud_model
from restore_dit.clouds.network.weights import build_network
from restore_dit.clouds.scores import CLASSES, Counts
from restore_dit.clouds.training.examples import ExampleMaker, LabelledBatch, class_shares
from restore_dit.clouds.training.labelled_tiles import TilesInMemory
from restore_dit.clouds.training.loss import CloudObjective, channels_last, class_weights
from restore_dit.clouds.training.model_files import metrics, save_trained_model
from restore_dit.clouds.training.split import open_labelled_stores, with_bands_of_stores
from restore_dit.clouds.training.validation import HeldOutFrames, criterion, score_line
from restore_dit.config.cloud_training import CloudTrainingConfig
from restore_dit.data.loader import ahead
from restore_dit.data.storage import Location, delete_folder, exists, list_names, locate, read_bytes
from restore_dit.errors import UserError
from restore_dit.trainer import ranks
from restore_dit.trainer.monitor import Sink
from restore_dit.trainer.run import RunResult, run_task
from restore_dit.trainer.run_folder import RunFolder
from restore_dit.trainer.task import Steps, Task, Validation, Weights

HOW_IT_RUNS = {"stores", "output", "use_gpu", "threads", "save_every", "log_every", "tracking"}
"""Settings that may change when a training is resumed. Stores may be moved, but their content must be the same."""

RUN_FOLDER = "training"
"""Folder in the output with everything that is not part of the model."""

_BATCHES_COUNTED = 10
"""Number of batches from which the class frequencies are estimated."""


@dataclass(frozen=True)
class CloudRunResult(RunResult):
    """`counts`: confusion counts of the kept weights on the held-out frames, by name of the store."""

    counts: dict[str, Counts]

    def tell(self, console: Console) -> int:
        """Shows the scores too."""
        for name, counts in self.counts.items():
            console.print(f"held-out part of {name}: {score_line(counts)}", soft_wrap=True, highlight=False)
        return super().tell(console)


def train_cloud_network(
    config: CloudTrainingConfig,
    console: Console,
    sinks: Sequence[Sink] = (),
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> CloudRunResult:
    """Trains from the latest saved state to the end, or until Ctrl-C, in this process, and writes the model directory
    `config.output` at the end.

    Args:
        sinks: destinations of reports besides the terminal, the run's logs and the tracking server; closed at the end.
        should_stop: polled after every step; true has the same effect as Ctrl-C.

    Raises:
        UserError: a store or the output cannot be used, the saved state does not match, there are no labels or no GPU,
            or the training diverges.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with ExitStack() as closing:
        for sink in sinks:
            closing.callback(sink.close)
        task = CloudTask(config)
        result = run_task(task, console, sinks, should_stop=should_stop)
    if result.finished:
        delete_folder(task.folder.state)
        delete_folder(task.best)
    return CloudRunResult(**vars(result), counts=task.counts)


class CloudTask(Task):
    """The training of a cloud-detection network. Weights are those of its moving average, which follows faster at the
    beginning."""

    keeps_last = True
    steps_per_epoch = None

    def __init__(self, config: CloudTrainingConfig) -> None:
        self.settings = config = with_bands_of_stores(config)
        self.stores = open_labelled_stores(config)
        output = locate(config.output)
        self.name, self.seed = output.name, config.seed
        self.fingerprint = " ".join(store.fingerprint for store in self.stores)
        self.folder = RunFolder(config, output.join(RUN_FOLDER), output, HOW_IT_RUNS, "choose another output")
        self.config, self.tracking, self.use_gpu = config.training, config.tracking, config.use_gpu
        self.total_steps, self.micro_batch_size = config.steps, config.batch_size
        tiles = TilesInMemory(self.stores, config)
        self.maker = ExampleMaker(self.stores, tiles, config)
        self.held_out = HeldOutFrames(self.stores, tiles, config)
        self.has_validation = bool(self.held_out)
        self.counts: dict[str, Counts] = {}

    @property
    def best(self) -> Location:
        """The model directory of the best weights so far."""
        return self.folder.location.join("best")

    @cached_property
    def class_shares(self) -> NDArray[np.float64]:
        """Relative frequency [4] of the classes in the labels.

        Raises:
            UserError: there are no labels.
        """
        shares = class_shares(self.maker, _BATCHES_COUNTED)
        if not shares.any():
            raise UserError(
                f"{', '.join(self.settings.stores)}: no labelled pixel in "
                f"{_BATCHES_COUNTED * self.settings.batch_size} examples (all masks are 255); train on stores with "
                "labelled masks"
            )
        return shares

    def claim(self) -> None:
        """Starts the run in its folder, or continues it, unless the output holds something else."""
        output = self.folder.model
        old = output.join("state", "state.safetensors")
        if exists(old):
            raise UserError(
                f"{old.uri}: the state of a training by an earlier version (format 2), which this one does not "
                "continue; choose another output"
            )
        others = [name for name in list_names(output) if name != RUN_FOLDER]
        if others and self.folder.read() is None:
            raise UserError(
                f"{output.uri}: holds {', '.join(others[:3])}{', …' if len(others) > 3 else ''} but no state of a "
                "cloud training, and would be overwritten; choose another output or an empty folder"
            )
        super().claim()

    def notices(self) -> list[str]:
        """The share of each store, classes without labels, and a missing validation."""
        shares = zip(self.stores, self.maker.shares, strict=True)
        lines = ["examples: " + ", ".join(f"{100 * share:.0f} % from {store.name}" for store, share in shares)]
        for name, share in zip(CLASSES, self.class_shares, strict=True):
            if share == 0:
                lines.append(f"the labels contain no {name}: the network will not detect any")
        if not self.has_validation:
            lines.append("no validation (validation.share=0): the weights of the last step will be kept")
        return lines

    def build(self) -> nn.Module:
        """The network and its loss."""
        return CloudObjective(self.settings, class_weights(self.class_shares, self.settings.loss.balance))

    def batches(self, start: int, stop: int) -> Steps:
        """One batch a step. The next one is prepared while one is processed."""
        return ahead(lambda step: [self._on_host(self.maker.batch(step))], range(start, stop))

    def to_device(self, micro_batch: LabelledBatch, device: torch.device) -> LabelledBatch:
        """The batch, with the memory layout of the network."""
        inputs = micro_batch.inputs.to(device, non_blocking=True, memory_format=torch.channels_last)
        return LabelledBatch(inputs, micro_batch.labels.to(device, non_blocking=True))

    def ema_decay(self, step: int) -> float:
        """Lower during the first steps."""
        return min(self.config.optimiser.ema_decay, (1 + step) / (10 + step))

    def validate(self, weights: Weights, device: torch.device) -> Validation:
        """Scores on the held-out frames."""
        counts = self.held_out.counts(self._network(weights, device))
        summary = "; ".join(f"{name}: {score_line(one)}" for name, one in counts.items())
        return Validation(criterion(list(counts.values())), metrics(counts), summary, {})

    def save(self, weights: Weights, metrics: dict[str, float]) -> None:
        """Keeps the weights in the run's folder. There is no model before the end."""
        save_cloud_model(self.best, self.settings.network, weights, metrics, {})

    def finish(self) -> None:
        """Writes the model directory with the kept weights, and notes their confusion counts."""
        kept = load_cloud_model(self.best)
        best_step = int(kept.metrics["step"]) if self.has_validation else 0
        network = channels_last(kept.network).to(ranks.choose_device(self.use_gpu))
        history = [json.loads(line) for line in read_bytes(self.folder.logs.join("metrics.jsonl")).splitlines()]
        self.counts = save_trained_model(
            self.folder.model, self.settings, network, self.stores, self.held_out, best_step, history
        )

    def _network(self, weights: Weights, device: torch.device) -> nn.Module:
        network = channels_last(build_network(self.settings.network))
        network.load_state_dict(weights)
        return network.to(device).eval()

    def _on_host(self, batch: LabelledBatch) -> LabelledBatch:
        return LabelledBatch(batch.inputs.pin_memory(), batch.labels.pin_memory()) if self.use_gpu else batch

"""Trains a cloud-detection network, from stores of labelled tiles to a model directory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore_dit.clouds.scores import CLASSES, Counts
from restore_dit.clouds.training.examples import ExampleMaker, LabelledBatch, class_shares
from restore_dit.clouds.training.labelled_tiles import TilesInMemory
from restore_dit.clouds.training.learner import Learner, class_weights, learning_rate
from restore_dit.clouds.training.model_files import save_trained_model
from restore_dit.clouds.training.reports import Learned, Noticed, Report, Started, Validated
from restore_dit.clouds.training.resume_state import (
    LossPoint,
    ValidationPoint,
    claim,
    load_state,
    save_state,
    state_file,
)
from restore_dit.clouds.training.split import open_labelled_stores, with_bands_of_stores
from restore_dit.clouds.training.validation import Validation, criterion
from restore_dit.config.cloud_training import CloudTrainingConfig
from restore_dit.data.storage import locate
from restore_dit.errors import UserError

_BATCHES_COUNTED = 10
"""Number of batches from which the class frequencies are estimated."""


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training: `finished`, or stopped on request after `step` with its state saved. `counts`: confusion
    counts of the kept weights on the held-out frames, by name of the store."""

    finished: bool
    step: int
    output: str
    counts: dict[str, Counts] = field(default_factory=dict)


def train_cloud_network(
    config: CloudTrainingConfig,
    on_report: Callable[[Report], object] = lambda report: None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Trains from the latest saved state to the end, or until `stop_requested` returns True after a step, and writes
    the model directory `config.output` at the end.

    Raises:
        UserError: a store or the output cannot be used, the saved state does not match, there are no labels or no GPU,
            or the weights diverge.
    """
    training = Training(config, on_report)
    training.resume()
    for batch in training.maker.batches(training.progress.step, config.steps):
        training.step(batch)
        if stop_requested() and training.progress.step < config.steps:
            training.save()
            return TrainingResult(False, training.progress.step, config.output)
    return TrainingResult(True, config.steps, config.output, training.finish())


class Training:
    """State of a training, and the actions due after each step."""

    def __init__(self, config: CloudTrainingConfig, on_report: Callable[[Report], object]) -> None:
        self.config = config = with_bands_of_stores(config)
        self.report = on_report
        self.output = locate(config.output)
        self.stores = open_labelled_stores(config)
        fingerprints = [labelled.fingerprint for labelled in self.stores]
        self.progress, self._saved = load_state(self.output, config, fingerprints)
        if self.progress.finished:
            raise UserError(f"{config.output}: this training is finished; choose another output or delete the folder")
        device = _device(config)
        claim(self.output, config)
        if config.threads:
            torch.set_num_threads(config.threads)
        tiles = TilesInMemory(self.stores, config)
        self.maker = ExampleMaker(self.stores, tiles, config)
        self.validation = Validation(self.stores, tiles, config)
        shares = class_shares(self.maker, _BATCHES_COUNTED)
        self._notice(shares)
        self.learner = Learner(config, class_weights(shares, config.loss.balance), device)
        self._best: dict[str, Tensor] = {}
        self._losses: list[Tensor] = []
        self._reported_at, self._clock = self.progress.step, time.perf_counter()

    def resume(self) -> None:
        """Resumes from the saved state, or starts.

        Raises:
            UserError: the state belongs to another network.
        """
        if self._saved:
            try:
                self.learner.load_state(self._saved, self.progress.step)
            except (KeyError, RuntimeError):
                raise UserError(
                    f"{state_file(self.output).uri}: belongs to another network; delete it to start again"
                ) from None
            self._best = self._saved.get("best", {})
            self._losses = [torch.tensor(loss) for loss in self.progress.unreported]
            self._saved = {}
        shares = {store.name: float(share) for store, share in zip(self.stores, self.maker.shares, strict=True)}
        self.report(Started(self.progress.step, self.config.steps, self.learner.parameters, shares))
        self._clock = time.perf_counter()

    def step(self, batch: LabelledBatch) -> None:
        """Trains one step, then logs, validates and saves if due."""
        progress, config = self.progress, self.config
        self._losses.append(self.learner.learn(batch, progress.step))
        progress.step += 1
        last = progress.step == config.steps
        if progress.step % config.log_every == 0 or last:
            self._report_loss()
        if progress.step % config.validation.every == 0 or last:
            self._validate()
        if progress.step % config.save_every == 0 or last:
            self.save()

    def save(self) -> None:
        """Writes the state.

        Raises:
            UserError: the weights are no longer finite.
        """
        self._require_finite()
        self.progress.unreported = [float(loss) for loss in self._losses]
        save_state(self.output, self.progress, {**self.learner.state(), "best": self._best})

    def finish(self) -> dict[str, Counts]:
        """Writes the model directory with the weights of the best validation (without validation: the last averaged
        weights) and marks the training as finished. Returns the confusion counts on held-out frames by store.

        Raises:
            UserError: the weights are no longer finite.
        """
        self._require_finite()
        network = self.learner.averaged_network
        network.load_state_dict(self._best or network.state_dict())
        counts = save_trained_model(self.output, self.config, network, self.stores, self.validation, self.progress)
        self.progress.finished = True
        save_state(self.output, self.progress, {})
        return counts

    def _require_finite(self) -> None:
        if not self.learner.is_finite:
            raise UserError(
                f"{self.output.uri}: the weights are no longer finite at step {self.progress.step}; lower "
                f"optimiser.learning_rate (it was {self.config.optimiser.learning_rate:g}) and train again with "
                "another output"
            )

    def _report_loss(self) -> None:
        loss = float(torch.stack(self._losses).mean())
        self._losses = []
        step, steps = self.progress.step, self.config.steps
        self.progress.losses.append(LossPoint(step=step, loss=loss))
        seconds = (time.perf_counter() - self._clock) / max(step - self._reported_at, 1)
        rate = learning_rate(step - 1, steps, self.config.optimiser)
        self.report(Learned(step, steps, loss, rate, self.config.batch_size / seconds, seconds * (steps - step)))
        self._reported_at, self._clock = step, time.perf_counter()

    def _validate(self) -> None:
        """Validates the averaged weights and keeps them if they are the best so far.

        Raises:
            UserError: the weights are no longer finite.
        """
        self._require_finite()
        if not self.validation:
            return
        begin = time.perf_counter()
        counts = self.validation.counts(self.learner.averaged_network)
        score = criterion(list(counts.values()))
        best = self.progress.best_criterion
        is_best = not math.isnan(score) and (best is None or score > best)
        if is_best:
            self.progress.best_criterion, self.progress.best_step = score, self.progress.step
            self._best = {name: value.clone() for name, value in self.learner.averaged_network.state_dict().items()}
        self.progress.validations.append(
            ValidationPoint(step=self.progress.step, counts={name: one.tolist() for name, one in counts.items()})
        )
        self.report(Validated(self.progress.step, counts, score, is_best))
        self._clock += time.perf_counter() - begin  # excludes validation from the reported speed

    def _notice(self, shares: NDArray[np.float64]) -> None:
        """Reports classes without labels, and a missing validation.

        Raises:
            UserError: there are no labels.
        """
        if not shares.any():
            raise UserError(
                f"{', '.join(self.config.stores)}: no labelled pixel in {_BATCHES_COUNTED * self.config.batch_size} "
                "examples (all masks are 255); train on stores with labelled masks"
            )
        for name, share in zip(CLASSES, shares, strict=True):
            if share == 0:
                self.report(Noticed(f"the labels contain no {name}: the network will not detect any"))
        if not self.validation:
            self.report(Noticed("no validation (validation.share=0): the weights of the last step will be kept"))


def _device(config: CloudTrainingConfig) -> torch.device:
    if config.use_gpu and not torch.cuda.is_available():
        raise UserError("use_gpu=true, but this process sees no GPU; set use_gpu=false")
    return torch.device("cuda" if config.use_gpu else "cpu")

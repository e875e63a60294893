"""What is trained: the interface between the trainer and a network, its examples and its validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from restore_dit.config import TrackingConfig, TrainingConfig
from restore_dit.trainer.run_folder import RunFolder

Weights = dict[str, Tensor]
"""Parameters and buffers of a network by name: whole tensors on the CPU, parameters in fp32."""

Steps = Generator[list[Any], None, None]
"""For each optimiser step, this rank's micro-batches, as `Task.to_device` takes them. Closing it ends whatever prepares
them."""

StepBatches = Callable[[int, int], Steps]
"""(first step, end) → the steps in between."""


@dataclass(frozen=True)
class Validation:
    """The result of a validation.

    - `score`: by which weights are selected, higher is better; NaN is never the best.
    - `scores`: what is recorded, by name.
    - `summary`: the main scores as words.
    - `metrics`: what is saved with the weights if they are the best so far.
    - `picture`: a PNG (rank 0 only).
    """

    score: float
    scores: dict[str, float]
    summary: str
    metrics: dict[str, float]
    picture: bytes | None = None


class Task(ABC):
    """A training that is ready to start. It is pickled to every worker, so it holds no network.

    - `name`: of the run; `seed`: of the initial weights; `folder`: where the run is written.
    - `fingerprint`: identifies the training data.
    - `config`: how it is trained; `use_gpu`: on what.
    - `total_steps`: optimiser steps of the whole run; `steps_per_epoch`: None if it has no epochs.
    - `micro_batch_size`: examples per forward pass.
    - `has_validation`: whether the best validation selects the weights to keep.
    """

    name: str
    seed: int
    folder: RunFolder
    fingerprint: str
    config: TrainingConfig
    tracking: TrackingConfig
    use_gpu: bool
    total_steps: int
    steps_per_epoch: int | None
    micro_batch_size: int
    has_validation: bool

    keeps_last: ClassVar[bool] = False
    """Whether a run without validation keeps its last weights, rather than those of the lowest training loss."""
    sections: ClassVar[tuple[str, str]] = ("", "")
    """What precedes the keys of `config` and the key `use_gpu` in the configuration, for messages."""

    def claim(self) -> None:
        """Starts the run in its folder, or continues it.

        Raises:
            UserError: the folder holds a finished run, another run, or something else.
        """
        self.folder.claim(self.fingerprint)

    def notices(self) -> Sequence[str]:
        """Lines to show the user before the run starts."""
        return ()

    @abstractmethod
    def build(self) -> nn.Module:
        """A module with randomly initialised weights from a batch to the sum of its examples' losses, a scalar in fp32.
        Its child `network` is what is trained."""

    def initial_weights(self) -> Weights | None:
        """The weights that the run starts from; None for random ones."""
        return None

    @abstractmethod
    def batches(self, start: int, stop: int) -> Steps:
        """The steps of a run in this process."""

    @abstractmethod
    def to_device(self, micro_batch: Any, device: torch.device) -> Any:
        """The micro-batch as the module takes it."""

    def weight_of(self, step: int) -> float:
        """What the sum of the losses of a step, over all ranks, is divided by."""
        return 1.0

    def logged(self, micro_batch: Any) -> list[tuple[str, int, float]]:
        """(tile, draw, weight) of each example, for the log of examples."""
        return []

    def ema_decay(self, step: int) -> float:
        """Decay of the moving average of the weights after step `step` (from 0)."""
        return self.config.optimiser.ema_decay

    @abstractmethod
    def validate(self, weights: Weights, device: torch.device) -> Validation:
        """Scores these weights; all ranks share the work and return the same scores."""

    @abstractmethod
    def save(self, weights: Weights, metrics: dict[str, float]) -> None:
        """Keeps the best weights so far (rank 0 only)."""

    def finish(self) -> None:
        """Completes the model of a run that has reached its end, before the run is marked as finished (rank 0 only)."""
        return

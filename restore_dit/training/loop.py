"""The training loop over an iterator of batches, the same in one process and on every worker of a cluster, with the
learning-rate schedule and the clock that measures its speed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from restore_dit.config import OptimiserConfig
from restore_dit.data.examples.batch import Batch, to_batch
from restore_dit.data.storage import delete, list_names, write_bytes_atomically
from restore_dit.errors import UserError
from restore_dit.model.denoiser import build_denoiser
from restore_dit.reconstruction.model_directory import load_model, save_model
from restore_dit.training import resume_state
from restore_dit.training.engine import Engine
from restore_dit.training.monitor import (
    AdvancedReport,
    EndedReport,
    GpuMemory,
    Monitor,
    SavedReport,
    SavingReport,
    StartedReport,
    StepReport,
    ValidationReport,
)
from restore_dit.training.objective_module import ObjectiveModule
from restore_dit.training.resume_state import Counters
from restore_dit.training.setup import TrainingSetup
from restore_dit.training.validation import AVERAGED, SCORES, validate

StepBatches = Callable[[int, int], Iterator[list[dict[str, Any]]]]
"""(first step, end) → for each step, this rank's micro-batches as stacked columns."""

SECONDS_BETWEEN_SIGNS = 10.0
"""Without a report for this long, rank 0 at least reports its current step, however large `log_every` is."""


def fit(
    setup: TrainingSetup, batches: StepBatches, monitor: Monitor, on_pause: Callable[[], None] = lambda: None
) -> bool:
    """Trains from the latest saved state to the end, or until the monitor requests a stop.

    Needs an initialised process group. Every rank calls `on_pause` whenever a state has been saved.

    Returns:
        whether the run is finished.

    Raises:
        UserError: the training diverged, or a saved state is damaged.
    """
    training = Fit(setup, monitor, on_pause)
    training.resume()
    for micro_batches in training.clock.waiting_for(batches(training.counters.step, setup.total_steps)):
        training.step(micro_batches)
        if training.stop_agreed():
            training.save()
            training.post(EndedReport(training.counters.step, finished=False))
            return False
    training.finish()
    training.post(EndedReport(training.counters.step, finished=True))
    return True


class Fit:
    """The state of the training on one rank; all ranks call the same methods in the same order."""

    def __init__(self, setup: TrainingSetup, monitor: Monitor, on_pause: Callable[[], None]) -> None:
        self.setup = setup
        self.config = setup.config.training
        self.monitor = monitor
        self.on_pause = on_pause
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        torch.manual_seed(setup.config.seed)
        denoiser = build_denoiser(setup.config.model, activation_checkpointing=self.config.activation_checkpointing)
        if self.config.compile:
            denoiser.compile()
        module = ObjectiveModule(denoiser, setup.config.diffusion, self.config.precision, setup.config.data.pixels)
        self.engine = Engine(module, self.config, setup.config.micro_batch_size)
        self.counters = Counters()
        self.clock = StepClock()
        self._loss = torch.zeros(2, device=self.engine.device)  # sum and number of steps since the last report
        self._loss_since_saving = [0.0, 0]
        self._saved_at = -1
        self._computed: list[dict[str, Any]] = []
        self._validated_at = -1
        self._last_sign = -math.inf

    def resume(self) -> None:
        """Continues from the latest state; without one, starts anew, from the weights of `init_from` if it is set."""
        self.counters = resume_state.load_counters(self.setup.folder.state)
        tensors = resume_state.load_tensors(self.setup.folder.state)
        if tensors is not None:
            self.engine.load_state(tensors, self.counters.step)
        elif self.setup.init_from:
            self.engine.load_weights(load_model(self.setup.init_from).denoiser.state_dict())
            self.engine.restart_average()
        if self.rank == 0:
            self._forget_uncommitted_logs()
        self.post(
            StartedReport(self.counters.step, self.setup.total_steps, self.engine.parameter_count, self.world_size)
        )
        self.clock = StepClock(self.counters.step)

    def step(self, micro_batches: list[dict[str, Any]]) -> None:
        """One optimiser step, followed by the reports, validation and saving that are due."""
        step = self.counters.step
        rate = learning_rate(
            step,
            steps_per_epoch=self.setup.plan.steps_per_epoch,
            total_steps=self.setup.total_steps,
            config=self.config.optimiser,
        )
        batches = [self._to_batch(columns) for columns in micro_batches]
        real_examples = sum(entry.weight for entry in self.setup.plan.step(step))
        self._loss[0] += self.engine.step(batches, real_examples, rate)
        self._loss[1] += 1
        if self.config.log_examples:
            self._computed.append({"step": step, "examples": [_logged(batch) for batch in batches]})
        self.counters = replace(self.counters, step=step + 1)
        if (step + 1) % self.config.log_every == 0 or step + 1 == self.setup.total_steps:
            self._report_step(rate)
        elif time.monotonic() - self._last_sign >= SECONDS_BETWEEN_SIGNS:
            self.post(AdvancedReport(step + 1))
        with self.clock.paused():
            if (step + 1) % self.config.validate_every == 0:
                self.validate()
            if (step + 1) % self.config.save_every == 0:
                self.save()

    def stop_agreed(self) -> bool:
        """Whether rank 0 was asked to stop; all ranks get the answer after the same step."""
        flag = torch.tensor(float(self.rank == 0 and self.monitor.stop_requested()), device=self.engine.device)
        if self.world_size > 1:
            dist.all_reduce(flag)
        return bool(flag.item())

    def validate(self) -> None:
        """Scores the averaged weights and saves them as the model if they are the best so far."""
        if not self.setup.validation:
            return
        self._validated_at = self.counters.step
        weights = self.engine.averaged_weights()
        denoiser = build_denoiser(self.setup.config.model)
        denoiser.load_state_dict(weights)
        result = validate(self.setup, denoiser.to(self.engine.device), self.rank, self.world_size)
        best = self.counters.best_psnr is None or result.psnr > self.counters.best_psnr
        if best:
            self.counters = replace(self.counters, best_psnr=result.psnr, best_step=self.counters.step)
            scores = {name: getattr(result, name) for name in SCORES}
            self._save_model(weights, {f"validation_{name}_missing": score for name, score in scores.items()})
        averages = {name: getattr(result, name) for name in AVERAGED}
        self.post(ValidationReport(self.counters.step, **averages, is_best=best, picture=result.picture))

    def save(self) -> None:
        """Saves the resume state and the log of the examples computed since the last one. A run without validation also
        saves its weights as the model if the training loss since the last state is the lowest so far.

        Raises:
            UserError: a weight is not finite.
        """
        if self._saved_at == self.counters.step:
            return
        self._saved_at = self.counters.step
        total, steps = self._loss_since_saving
        self._loss_since_saving = [0.0, 0]
        state = self.engine.state()
        if not all(tensor.isfinite().all() for tensor in state["weights"].values()):
            raise _diverged(self.counters.step)
        loss = total / max(steps, 1)
        if not self.setup.validation and steps and loss < (self.counters.best_loss or math.inf):
            self.counters = replace(self.counters, best_loss=loss, best_step=self.counters.step)
            self._save_model(state["average"], {"training_loss": loss})
        logs = self.setup.folder.logs
        if self._computed:
            name = f"step-{self.counters.step:09d}-rank-{self.rank}.jsonl"
            content = "".join(json.dumps(line) + "\n" for line in self._computed)
            write_bytes_atomically(logs.join("examples", name), content.encode())
            self._computed = []
        dist.barrier()  # the state may only become the latest once every rank's log is written
        self.post(SavingReport(self.counters.step))
        if self.rank == 0:
            resume_state.save(self.setup.folder.state, state, self.counters)
        self.post(SavedReport(self.counters.step))
        self.on_pause()

    def finish(self) -> None:
        """Validates and saves a last time, and marks the run as finished."""
        if self._validated_at != self.counters.step:
            self.validate()
        self.save()
        if self.rank == 0:
            self.setup.folder.finish()

    def post(self, report: Any) -> None:
        """Posts a report; only rank 0 does, on behalf of all."""
        self._last_sign = time.monotonic()
        if self.rank == 0:
            self.monitor.post(report)

    def _forget_uncommitted_logs(self) -> None:
        """Deletes example logs of steps after the saved state: these are computed again, possibly by other ranks."""
        folder = self.setup.folder.logs.join("examples")
        for name in list_names(folder):
            if int(name.split("-")[1]) > self.counters.step:
                delete(folder.join(name))

    def _save_model(self, weights: dict[str, torch.Tensor], metrics: dict[str, float]) -> None:
        if self.rank == 0:
            metrics = {**metrics, "step": float(self.counters.step)}
            setup = self.setup
            save_model(setup.folder.model, setup.config, weights, setup.normalisation, metrics, setup.training_data)

    def _report_step(self, rate: float) -> None:
        steps = int(self._loss[1])
        speed, waited = self.clock.lap(self.counters.step)
        ranks = self._from_all_ranks([self._loss[0].item(), waited, *_gpu_memory(self.engine.device)])
        total = sum(rank[0] for rank in ranks)  # the parts of all ranks sum to the mean over the batch
        loss = total / steps
        if not math.isfinite(loss):
            raise _diverged(self.counters.step)
        self._loss_since_saving = [self._loss_since_saving[0] + total, self._loss_since_saving[1] + steps]
        self.post(
            StepReport(
                step=self.counters.step,
                total_steps=self.setup.total_steps,
                epoch=self.setup.plan.epoch(self.counters.step - 1),
                loss=loss,
                learning_rate=rate,
                examples_per_second=speed * self.config.batch_size,
                seconds_left=(self.setup.total_steps - self.counters.step) / speed,
                data_wait_share=max(
                    rank[1] for rank in ranks
                ),  # the other ranks wait for the slowest in the all-reduce
                gradient_norm=self.engine.gradient_norm,
                gpu_memory=tuple(GpuMemory(*map(int, rank[2:])) for rank in ranks if len(rank) > 2),
            )
        )
        self._loss.zero_()

    def _from_all_ranks(self, values: list[float]) -> list[list[float]]:
        """The values of every rank, in rank order."""
        if self.world_size == 1:
            return [values]
        own = torch.tensor(values, dtype=torch.float64, device=self.engine.device)
        ranks = [torch.empty_like(own) for _ in range(self.world_size)]
        dist.all_gather(ranks, own)
        return torch.stack(ranks).tolist()

    def _to_batch(self, columns: dict[str, Any]) -> Batch:
        return to_batch(
            columns,
            self.setup.normalisation,
            mask_padding=self.setup.config.data.mask_padding,
            keep_padding=self.setup.config.model.network == "patches",
            device=self.engine.device,
        )


def _gpu_memory(device: torch.device) -> list[float]:
    """Memory of this rank's GPU in bytes: allocated by tensors now, peak since the last call, and total. Empty on a
    CPU."""
    if device.type != "cuda":
        return []
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return [torch.cuda.memory_allocated(device), peak, torch.cuda.get_device_properties(device).total_memory]


def _diverged(step: int) -> UserError:
    return UserError(
        f"the training diverged before step {step}: a loss or weight is not finite; the last good state is kept. "
        "Train again with a lower training.optimiser.learning_rate or training.precision=fp32"
    )


def _logged(batch: Batch) -> list[tuple[str, int, float]]:
    return [(tile, draw, weight) for (tile, draw), weight in zip(batch.examples, batch.weight.tolist(), strict=True)]


def learning_rate(step: int, *, steps_per_epoch: int, total_steps: int, config: OptimiserConfig) -> float:
    """Learning rate of optimiser step `step` (from 0): linear warm-up, then the configured decay."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    if config.decay == "cosine":
        progress = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    if config.decay == "halve_at_epochs":
        return config.learning_rate * 0.5 ** sum(step // steps_per_epoch >= epoch for epoch in config.halve_at)
    return config.learning_rate


ItemT = TypeVar("ItemT")


class StepClock:
    """Time since the last report on one rank, excluding pauses for validation and saving."""

    def __init__(self, step: int = 0) -> None:
        self._step = step
        self._since = time.monotonic()
        self._waited = 0.0

    def waiting_for(self, items: Iterator[ItemT]) -> Iterator[ItemT]:
        """Yields the same items and adds up how long each took to arrive.

        Every step ends with the host reading a number from the device, so no computation is in flight during this wait.
        """
        while True:
            begun = time.monotonic()
            try:
                item = next(items)
            except StopIteration:
                return
            self._waited += time.monotonic() - begun
            yield item

    def lap(self, step: int) -> tuple[float, float]:
        """Steps per second, and the share of time (0 to 1) that this rank waited for data, since the last lap."""
        now = time.monotonic()
        seconds = max(now - self._since, 1e-9)
        speed, share = max(step - self._step, 1) / seconds, min(self._waited / seconds, 1.0)
        self._step, self._since, self._waited = step, now, 0.0
        return speed, share

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Context whose duration is excluded."""
        begun = time.monotonic()
        yield
        self._since += time.monotonic() - begun

"""The training loop over an iterator of batches, the same for every task, in one process and on every worker of a
cluster, with the learning-rate schedule."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch

from restore_dit.config import OptimiserConfig
from restore_dit.data.storage import delete, list_names, write_bytes_atomically
from restore_dit.errors import UserError
from restore_dit.trainer import ranks, resume_state
from restore_dit.trainer.engine import Engine
from restore_dit.trainer.monitor import (
    AdvancedReport,
    EndedReport,
    GpuMemory,
    Monitor,
    Report,
    SavedReport,
    SavingReport,
    StartedReport,
    StepReport,
    ValidationReport,
)
from restore_dit.trainer.pace import StepClock, StopLooks
from restore_dit.trainer.resume_state import Counters
from restore_dit.trainer.task import StepBatches, Task, Weights
from restore_dit.trainer.zero import ZeroEngine

SECONDS_BETWEEN_SIGNS = 10.0
"""Without a report for this long, rank 0 at least reports its current step, however large `log_every` is."""


def fit(task: Task, batches: StepBatches, monitor: Monitor, on_pause: Callable[[], object] = lambda: None) -> bool:
    """Trains from the latest saved state to the end, or until the monitor requests a stop.

    Every rank calls `on_pause` whenever a state has been saved.

    Returns:
        whether the run is finished.

    Raises:
        UserError: the training diverged, a saved state is damaged or another network's, or there is no GPU.
    """
    training = Fit(task, monitor, on_pause)
    training.resume()
    # All ranks decide to stop after the same step: one that went on alone would wait forever in its next exchange.
    looks = StopLooks(monitor, training.counters.step)
    with closing(batches(training.counters.step, task.total_steps)) as steps:
        for micro_batches in training.clock.waiting_for(steps):
            paused = training.step(micro_batches)
            if training.steps_left and looks.agreed(training.counters.step, paused):
                training.save()
                training.post(EndedReport(training.counters.step, finished=False))
                return False
    training.finish()
    training.post(EndedReport(training.counters.step, finished=True))
    return True


class Fit:
    """The state of the training on one rank; all ranks call the same methods in the same order."""

    def __init__(self, task: Task, monitor: Monitor, on_pause: Callable[[], object]) -> None:
        self.task = task
        self.config = task.config
        self.monitor = monitor
        self.on_pause = on_pause
        self.device = ranks.choose_device(task.use_gpu, task.sections[1])
        self.rank = ranks.rank()
        # Every rank draws the same initial weights, so they need not be sent from one to the others.
        torch.manual_seed(task.seed)
        module = task.build()
        if self.config.zero_stage:
            self.engine: Engine = ZeroEngine(module, self.config, self.device, task.micro_batch_size)
        else:
            self.engine = Engine(module, self.config, self.device)
        self.counters = Counters()
        self.clock = StepClock()
        self._loss = torch.zeros((), device=self.device)
        """This rank's part of the losses since the last report."""
        self._loss_since_saving = [0.0, 0]
        self._saved_at = -1
        self._computed: list[dict[str, Any]] = []
        self._last_sign = -math.inf

    @property
    def steps_left(self) -> int:
        """Number of steps until the end."""
        return self.task.total_steps - self.counters.step

    def resume(self) -> None:
        """Continues from the latest state; without one, starts anew, from the task's initial weights if it has any."""
        self.counters = resume_state.load_counters(self.task.folder.state)
        tensors = resume_state.load_tensors(self.task.folder.state)
        if tensors is not None:
            try:
                self.engine.load_state(tensors, self.counters.step)
            except KeyError:
                where = self.task.folder.state.uri
                raise UserError(f"{where}: the state of another network; {self.task.folder.instead}") from None
            # The saved sum is that of all ranks: counted on more than one, it would be added up several times.
            if self.rank == 0:
                self._loss += self.counters.unreported_loss
        elif (initial := self.task.initial_weights()) is not None:
            self.engine.load_weights(initial)
            self.engine.restart_average()
        if self.rank == 0:
            self._forget_uncommitted_logs()
        self.post(
            StartedReport(self.counters.step, self.task.total_steps, self.engine.parameter_count, ranks.world_size())
        )
        self.clock = StepClock(self.counters.step, self.device)

    def step(self, micro_batches: list[Any]) -> bool:
        """One optimiser step, followed by the reports, validation and saving that are due. The end is left to
        `finish`. Returns whether it has validated or saved."""
        task, step = self.task, self.counters.step
        torch.manual_seed(hash((task.seed, step)) % 2**63)  # for networks with dropout, wherever they resumed
        rate = learning_rate(
            step,
            steps_per_epoch=task.steps_per_epoch or task.total_steps,
            total_steps=task.total_steps,
            config=self.config.optimiser,
        )
        batches = [task.to_device(micro_batch, self.device) for micro_batch in micro_batches]
        self._loss += self.engine.step(batches, task.weight_of(step), rate, task.ema_decay(step))
        if self.config.log_examples:
            self._computed.append({"step": step, "examples": [task.logged(one) for one in micro_batches]})
        self.counters = replace(self.counters, step=step + 1, unreported_steps=self.counters.unreported_steps + 1)
        if (step + 1) % self.config.log_every == 0 or not self.steps_left:
            self._report_step(rate)
        elif time.monotonic() - self._last_sign >= SECONDS_BETWEEN_SIGNS:
            self.post(AdvancedReport(step + 1))
        validates, saves = ((step + 1) % every == 0 for every in (self.config.validate_every, self.config.save_every))
        # The last step leaves both to `finish`, which would otherwise repeat them for the same weights.
        if not self.steps_left or not (validates or saves):
            return False
        with self.clock.paused():
            if validates:
                self.validate()
            if saves:
                self.save()
        return True

    def validate(self) -> None:
        """Scores the averaged weights and keeps them if they are the best so far, or none had a score.

        Raises:
            UserError: a weight is not finite.
        """
        if not self.task.has_validation:
            return
        weights = self.engine.averaged_weights()
        self._require_finite(weights)
        result = self.task.validate(weights, self.device)
        best = self.counters.best_score
        is_best = not math.isnan(result.score) and (best is None or result.score > best)
        # A first model is kept even if its score is NaN: a run that ends must leave one.
        if is_best or best is None:
            self._keep(weights, result.metrics)
        if is_best:
            self.counters = replace(self.counters, best_score=result.score, best_step=self.counters.step)
        step = self.counters.step
        self.post(ValidationReport(step, result.scores, result.summary, is_best, result.picture))

    def save(self) -> None:
        """Saves the resume state and the log of the examples computed since the last one. A run without validation also
        keeps its weights: always, or if the training loss since the last state is the lowest so far.

        Raises:
            UserError: a weight is not finite.
        """
        if self._saved_at == self.counters.step:
            return
        self._saved_at = self.counters.step
        state = self.engine.state()
        self._require_finite(state["weights"])
        self._require_finite(state["average"])
        # The steps since the last report are part of the state, so that a resumed run reports the same mean loss.
        unreported = sum(values[0] for values in ranks.from_all([self._loss.item()]))
        self.counters = replace(self.counters, unreported_loss=unreported)
        if not self.task.has_validation:
            self._keep_unvalidated(state["average"])
        logs = self.task.folder.logs
        if self._computed:
            name = f"step-{self.counters.step:09d}-rank-{self.rank}.jsonl"
            content = "".join(json.dumps(line) + "\n" for line in self._computed)
            write_bytes_atomically(logs.join("examples", name), content.encode())
            self._computed = []
        ranks.wait_for_all()  # the state may only become the latest once every rank's log is written
        # Logs are made permanent before the state: a crash in between repeats steps, but loses no line of the log.
        self.post(SavingReport(self.counters.step))
        if self.rank == 0:
            resume_state.save(self.task.folder.state, state, self.counters)
        self.post(SavedReport(self.counters.step))
        self.on_pause()

    def finish(self) -> None:
        """Validates and saves a last time, and marks the run as finished."""
        self.validate()
        self.save()
        if self.rank == 0:
            self.task.finish()
            self.task.folder.finish()

    def post(self, report: Report) -> None:
        """Posts a report; only rank 0 does, on behalf of all."""
        self._last_sign = time.monotonic()
        if self.rank == 0:
            self.monitor.post(report)

    def _keep(self, weights: Weights, metrics: dict[str, float]) -> None:
        if self.rank == 0:
            self.task.save(weights, {**metrics, "step": float(self.counters.step)})

    def _keep_unvalidated(self, weights: Weights) -> None:
        total, steps = self._loss_since_saving
        self._loss_since_saving = [0.0, 0]
        loss = total / max(steps, 1)
        if self.task.keeps_last:
            self._keep(weights, {})
        elif steps and loss < (self.counters.best_loss or math.inf):
            self.counters = replace(self.counters, best_loss=loss, best_step=self.counters.step)
            self._keep(weights, {"training_loss": loss})

    def _require_finite(self, weights: Weights) -> None:
        if not all(tensor.isfinite().all() for tensor in weights.values()):
            raise self._diverged()

    def _diverged(self) -> UserError:
        section = self.task.sections[0]
        return UserError(
            f"the training diverged before step {self.counters.step}: a loss or weight is not finite; the last good "
            f"state is kept. Train again with a lower {section}optimiser.learning_rate (it was "
            f"{self.config.optimiser.learning_rate:g}) or {section}precision=fp32"
        )

    def _forget_uncommitted_logs(self) -> None:
        """Deletes example logs of steps after the saved state: these are computed again, possibly by other ranks."""
        folder = self.task.folder.logs.join("examples")
        for name in list_names(folder):
            if int(name.split("-")[1]) > self.counters.step:
                delete(folder.join(name))

    def _report_step(self, rate: float) -> None:
        own_loss = self._loss.item()  # waits until the device has computed all steps
        speed, waited = self.clock.lap(self.counters.step)
        reports = ranks.from_all([own_loss, waited, *_gpu_memory(self.device)])
        total = sum(values[0] for values in reports)  # the parts of all ranks sum to the mean over the batch
        steps = self.counters.unreported_steps
        # Checked when reporting, not at every step: the check waits for the device, and a state
        # is only saved if it is finite.
        if not math.isfinite(total):
            raise self._diverged()
        self._loss.zero_()
        self._loss_since_saving = [self._loss_since_saving[0] + total, self._loss_since_saving[1] + steps]
        self.counters = replace(self.counters, unreported_steps=0)
        per_epoch = self.task.steps_per_epoch
        self.post(
            StepReport(
                step=self.counters.step,
                total_steps=self.task.total_steps,
                epoch=None if per_epoch is None else (self.counters.step - 1) // per_epoch,
                loss=total / steps,
                learning_rate=rate,
                examples_per_second=speed * self.config.batch_size,
                seconds_left=self.steps_left / speed,
                data_wait_share=max(values[1] for values in reports),  # the others wait for the slowest in each step
                gradient_norm=self.engine.gradient_norm,
                gpu_memory=tuple(GpuMemory(*map(int, values[2:])) for values in reports if len(values) > 2),
            )
        )


def _gpu_memory(device: torch.device) -> list[float]:
    """Memory of this rank's GPU in bytes: allocated by tensors now, peak since the last call, and total. Empty on a
    CPU."""
    if device.type != "cuda":
        return []
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return [torch.cuda.memory_allocated(device), peak, torch.cuda.get_device_properties(device).total_memory]


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

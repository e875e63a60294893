"""Early stopping by Ray Tune's ASHA, except that trials are asked to stop instead of being killed.

A killed trial may leave its worker group behind. A trial that is asked saves its state, releases its workers and
returns, so that its resources are free as soon as it has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import ray
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from restore_dit.data.cluster_job import on_this_node
from tuning.config import StoppingConfig
from tuning.records import Score

StopList = Any
"""Handle of a `_StopList`."""


@ray.remote(num_cpus=0)
class _StopList:
    """Names of the trials that should stop, shared between processes."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def add(self, name: str) -> None:
        self._names.add(name)

    def has(self, name: str) -> bool:
        return name in self._names


def stop_list() -> StopList:
    """Creates an empty stop list on this node, since trials cannot go on without it: the sweep outlives the loss of any
    node but its own."""
    return _StopList.options(scheduling_strategy=on_this_node()).remote()  # type: ignore[attr-defined]


class CooperativeAsha(AsyncHyperBandScheduler):
    """ASHA that adds trials to the stop list instead of killing them.

    Args:
        config: settings of the early stopping.
        total_steps: optimiser steps of a trial that trains to its end.
        stops: the stop list.
        curves: name and validation scores of ended trials, which are added to their rungs as if just reported.
    """

    def __init__(
        self, config: StoppingConfig, total_steps: int, stops: StopList, curves: Sequence[tuple[str, Sequence[Score]]]
    ) -> None:
        self.total_steps = total_steps
        self.stops = stops
        super().__init__(
            time_attr="step",
            metric="psnr",
            mode="max",
            grace_period=min(config.grace_steps, total_steps),
            max_t=total_steps,
            reduction_factor=config.reduction,
            stop_last_trials=False,
        )
        controller: Any = None  # ASHA does without
        # A resumed sweep compares its trials with those that ended before it was stopped.
        for name, curve in curves:
            trial: Any = SimpleNamespace(trial_id=name)  # the only attribute that ASHA reads
            self.on_trial_add(controller, trial)
            for score in curve:
                super().on_trial_result(controller, trial, {"step": score.step, "psnr": score.psnr})
            self.on_trial_remove(controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        """Always `CONTINUE` for Ray Tune; a trial that should stop is added to the stop list."""
        if result.get("ended"):
            return TrialScheduler.CONTINUE
        verdict = super().on_trial_result(tune_controller, trial, result)
        if verdict == TrialScheduler.STOP and result["step"] < self.total_steps:
            # Waits until it is on the list: the trial asks right after its report, and would
            # otherwise train on to the next rung.
            ray.get(self.stops.add.remote(trial.config["trial"]["name"]), timeout=60)
        return TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> None:
        """Ignores the last report, which repeats the trial's best validation: the rungs already contain it."""
        self.on_trial_remove(tune_controller, trial)

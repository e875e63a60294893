"""Early stopping by Ray Tune's ASHA, but for how a trial ends: told to, and not killed.

A trial that is killed may leave its worker group behind. One that is told saves its state, lets its workers go and
returns, so that what it had is free the moment it is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import ray
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from tuning.config import StoppingConfig
from tuning.records import Score

StopList = Any
"""Handle of a `_StopList`."""


@ray.remote(num_cpus=0)
class _StopList:
    """Trials that are to end, by name."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def add(self, name: str) -> None:
        self._names.add(name)

    def has(self, name: str) -> bool:
        return name in self._names


def stop_list() -> StopList:
    """An empty one."""
    return _StopList.remote()  # type: ignore[attr-defined]


class TellingAsha(AsyncHyperBandScheduler):
    """ASHA whose verdict goes to the stop list.

    Args:
        total_steps: of a trial that trains to its end.
        curves: validations of trials that are over, which count in their rungs as if they had just been reported.
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
        for name, curve in curves:
            for score in curve:
                was: Any = SimpleNamespace(trial_id=name)  # all that a rung knows of a trial
                self._brackets[0].on_result(was, score.step, score.psnr)

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        """Always to go on, as far as Ray Tune is concerned."""
        if result.get("ended"):
            return TrialScheduler.CONTINUE
        verdict = super().on_trial_result(tune_controller, trial, result)
        if verdict == TrialScheduler.STOP and result["step"] < self.total_steps:
            ray.get(self.stops.add.remote(trial.config["trial"]["name"]), timeout=60)
        return TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> None:
        """Its last report repeats its best validation, which its rungs have already."""
        self._trial_info.pop(trial.trial_id, None)

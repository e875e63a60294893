"""Population-based training (Jaderberg et al. 2017) in generations: when all trials have reached the last step of a
generation, the worst ones copy the state of the best ones and perturb their values.

Ray Tune's scheduler of the same name kills the processes of trials and passes states on as pickles. Here, a trial
pauses by itself at the end of a generation, and states are copied from one run's folder to another's.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from restore_dit.config import RunConfig
from restore_dit.errors import UserError
from restore_dit.trainer import resume_state
from tuning.config import PopulationConfig, SweepConfig
from tuning.records import Exploit, SweepFolder, Trial
from tuning.space import Bundle, Choice, Range, Space, Values, configuration, may_change, values_by

MAX_TRIES = 50
"""Attempts to perturb values into a valid configuration. If all fail, the copied values are kept."""


def generation_ends(population: PopulationConfig, total_steps: int) -> list[int]:
    """The last optimiser step of every generation."""
    return [*range(population.every_steps, total_steps, population.every_steps), total_steps]


def exploit(
    folder: SweepFolder, trials: Sequence[Trial], step: int, sweep: SweepConfig, base: RunConfig
) -> list[Trial]:
    """Makes the worst trials at this step copy the best ones, and writes their records. If it was interrupted, calling
    it again completes the same changes.

    Args:
        folder: the sweep's folder.
        trials: the population, all of which have reached this step or failed before.
        step: last step of a generation.
        sweep: the sweep.
        base: base configuration of the trials.

    Returns:
        The trials that were replaced.
    """
    assert sweep.population is not None
    scores = {trial.name: _psnr_at(folder, trial, step) for trial in trials}
    reached = {name: psnr for name, psnr in scores.items() if psnr is not None}
    by_name = {trial.name: trial for trial in trials}
    replaced = []
    dice = random.Random(f"{sweep.search.seed} {step}")
    for name, source_name in followers(reached, sweep.population.share, dice).items():
        trial, source = by_name[name], by_name[source_name]
        # Interrupted between two copies, the sweep calls this again for the same step: copies that were made stay.
        if any(done.step == step for done in trial.exploits):
            continue
        near = random.Random(f"{sweep.search.seed} {step} {name}")
        values = explored(sweep.space, base, source.values_at(step), sweep.population.fresh, near)
        new = Exploit(step=step, source=source_name, before=trial.values)
        trial = trial.model_copy(update={"values": values, "exploits": [*trial.exploits, new]})
        from_, to = (folder.trials.join(run, "state") for run in (source.run_at(step), trial.run_name))
        # The state before the record: a record without its state would train on with weights of the former values.
        resume_state.copy_latest(from_, to)
        folder.write(trial)
        replaced.append(trial)
    return replaced


def followers(scores: Mapping[str, float], share: float, dice: random.Random) -> dict[str, str]:
    """The worst trials, each mapped to one of the best that it copies, chosen at random. `scores`: PSNR by trial."""
    order = sorted(scores, key=lambda name: (scores[name], name))
    count = min(math.ceil(len(order) * share), len(order) // 2)
    return {name: dice.choice(order[len(order) - count :]) for name in order[:count]}


def explored(space: Space, base: RunConfig, values: Values, fresh: float, dice: random.Random) -> Values:
    """Perturbs values, or resamples each with probability `fresh`. Values that may not change during training stay."""

    def pick(name: str, parameter: Choice | Bundle | Range) -> Any:
        if not may_change(name, parameter):
            return values[name]
        if name not in values or dice.random() < fresh:
            return parameter.suggest(name, _Dice(dice))
        return parameter.near(values[name], dice)

    for _ in range(MAX_TRIES):
        found = values_by(pick, space, base)
        try:
            configuration(space, base, found)
        except UserError:
            continue
        return found
    return values


def _psnr_at(folder: SweepFolder, trial: Trial, step: int) -> float | None:
    return next((score.psnr for score in folder.curve(trial) if score.step == step), None)


class _Dice:
    """Samples uniformly, with the interface of an Optuna trial."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._dice.choice(choices)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step:
            return low + step * self._dice.randint(0, math.floor((high - low) / step + 1e-9))
        if log:
            return min(max(math.exp(self._dice.uniform(math.log(low), math.log(high))), low), high)
        return self._dice.uniform(low, high)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if log:
            return min(max(round(math.exp(self._dice.uniform(math.log(low), math.log(high)))), low), high)
        return low + step * self._dice.randint(0, (high - low) // step)

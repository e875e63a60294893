"""Suggests the trials of a sweep: unfinished ones first, then new ones from Optuna, which learns from those that ended.

Optuna's study is rebuilt from the records whenever a sweep starts, so nothing has to be pickled.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

from restore_dit.config import RunConfig
from tuning.config import SearchConfig
from tuning.records import Trial
from tuning.space import Bundle, Choice, Range, Space, Values, grid, suggest

TRIES_OF_TPE = 10
"""Attempts to get new values from TPE before they are drawn at random."""
MAX_TRIES = 300
"""Attempts to draw new values at random before the space counts as exhausted."""

DIRECTIONS = {"psnr": StudyDirection.MAXIMIZE, "seconds": StudyDirection.MINIMIZE}


class StudySearch(Searcher):
    """The search algorithm of a sweep, for Ray Tune. Each suggestion is `{"trial": record}`.

    Args:
        search: settings of the search.
        space: the search space.
        base: base configuration of the trials.
        trials: records of the sweep so far. Unfinished trials are suggested again before new ones.
        on_new: called with the record of a new trial before it starts.
    """

    def __init__(
        self,
        search: SearchConfig,
        space: Space,
        base: RunConfig,
        trials: Sequence[Trial],
        on_new: Callable[[Trial], None],
    ) -> None:
        super().__init__(metric="psnr", mode="max")
        self._search, self._space, self._base, self._on_new = search, space, base, on_new
        searched = [trial for trial in trials if trial.repeats is None]
        self._waiting = [trial for trial in searched if not trial.is_over]
        self._count = len(searched)
        self._study = study_of(search, space, searched)
        # A sampler of its own: draws that are thrown away must not change what TPE suggests next.
        self._random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=search.seed + len(searched)))
        self._known = {_key(trial.values) for trial in searched}
        self._grid = grid(space, base) if search.algorithm == "grid" else iter(())
        self._asked: dict[str, tuple[Trial, optuna.Trial | None]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing for Ray Tune to save, because a sweep resumes only from its records."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """The next trial, or `FINISHED` if there is none."""
        asked: optuna.Trial | None = None
        if self._waiting:
            trial = self._waiting.pop(0)
        else:
            values: Values | None = None
            if self._count < self._search.trials:
                if self._search.algorithm == "grid":
                    values = next((values for values in self._grid if _key(values) not in self._known), None)
                else:
                    asked, values = self._ask()
            if values is None:
                return Searcher.FINISHED
            self._known.add(_key(values))
            trial = Trial(name=f"trial-{self._count:03d}", values=values)
            self._count += 1
            # Recorded before it starts, so that a sweep killed now does not forget that it was suggested.
            self._on_new(trial)
        self._asked[trial_id] = trial, asked
        return {"trial": trial.model_dump(mode="json")}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Adds the result of a trial to the study."""
        trial, asked = self._asked.pop(trial_id, (None, None))
        if trial is None:
            return
        values = [] if error or not result else [result[name] for name in self._search.objectives if name in result]
        if not values:
            if asked is not None:
                self._study.tell(asked, state=TrialState.FAIL)
        elif asked is not None:
            self._study.tell(asked, values)
        else:
            self._study.add_trial(_frozen(trial, self._space, values))

    def _ask(self) -> tuple[optuna.Trial | None, Values | None]:
        """Values that no trial has had, since the same values and seed would give the same result. If TPE keeps
        suggesting known ones, draws others at random; None if there are none."""
        for _ in range(TRIES_OF_TPE):
            asked = self._study.ask()
            values = suggest(self._space, self._base, asked)
            if _key(values) not in self._known:
                return asked, values
            self._study.tell(asked, state=TrialState.FAIL)
        for _ in range(MAX_TRIES):
            drawn = self._random.ask()
            values = suggest(self._space, self._base, drawn)
            if _key(values) not in self._known:
                # Through the study, which then learns from this trial as from its own.
                self._study.enqueue_trial(drawn.params)
                asked = self._study.ask()
                return asked, suggest(self._space, self._base, asked)
        return None, None

    def save(self, checkpoint_path: str) -> None:
        """Does nothing, because a sweep resumes only from its records."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing, because a sweep resumes only from its records."""


def first_trials(search: SearchConfig, space: Space, base: RunConfig, trials: Sequence[Trial]) -> list[Trial]:
    """The records of all trials that have not been created yet."""
    new: list[Trial] = []
    study = StudySearch(search, space, base, trials, new.append)
    for _ in range(len(trials) + search.trials):
        if study.suggest(str(len(new))) == Searcher.FINISHED:
            break
    return new


class QueueSearch(Searcher):
    """Suggests the given trials in order."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        super().__init__(metric="psnr", mode="max")
        self._waiting = list(trials)

    def suggest(self, trial_id: str) -> Any:
        """The next trial, or `FINISHED` if there is none."""
        if not self._waiting:
            return Searcher.FINISHED
        return {"trial": self._waiting.pop(0).model_dump(mode="json")}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Does nothing, because the trials are given."""

    def save(self, checkpoint_path: str) -> None:
        """Does nothing, because a sweep resumes only from its records."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing, because a sweep resumes only from its records."""


def study_of(search: SearchConfig, space: Space, trials: Sequence[Trial]) -> optuna.Study:
    """An Optuna study that contains these trials, if they have ended."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("optuna").setLevel(logging.WARNING)
    study = optuna.create_study(
        directions=[DIRECTIONS[name] for name in search.objectives], sampler=_sampler(search, len(trials))
    )
    for trial in trials:
        if trial.best is not None and trial.is_over:
            study.add_trial(_frozen(trial, space, [getattr(trial.best, name) for name in search.objectives]))
        elif trial.status == "failed":
            study.add_trial(_frozen(trial, space, None))
    return study


def _sampler(search: SearchConfig, seen: int) -> optuna.samplers.BaseSampler:
    seed = search.seed + 7919 * seen  # a resumed sweep must not repeat the draws from its start
    if search.algorithm == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=search.startup_trials, multivariate=True, group=True, constant_liar=True
        )


def _frozen(trial: Trial, space: Space, values: list[float] | None) -> optuna.trial.FrozenTrial:
    """An ended trial in Optuna's representation. `values`: its scores; None if it failed."""
    distributions = {name: _distribution(space[name]) for name in trial.values}
    params = {name: _as_drawn(space[name], value) for name, value in trial.values.items()}
    state = TrialState.COMPLETE if values is not None else TrialState.FAIL
    return create_trial(state=state, values=values, params=params, distributions=distributions)


def _distribution(parameter: Choice | Bundle | Range) -> BaseDistribution:
    if isinstance(parameter, Range):
        if parameter.kind == "int":
            step = int(parameter.step or 1)
            return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log, step=step)
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    # By index, since Optuna only accepts plain values as choices, and bundles are mappings.
    return CategoricalDistribution(tuple(range(len(list(parameter.every())))))


def _as_drawn(parameter: Choice | Bundle | Range, value: Any) -> Any:
    """A value in Optuna's representation: choices are represented by their index."""
    if isinstance(parameter, Range):
        return value
    options = [list(option) if isinstance(option, tuple) else option for option in parameter.every()]
    return next(number for number, option in enumerate(options) if _same(option, value))


def _key(values: Values) -> str:
    return json.dumps(values, sort_keys=True)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other

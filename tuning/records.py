"""What a sweep knows of its trials, as files beside their runs: enough to go on after the sweep was killed, and to
make its report. `trials/NAME.json` is a trial's record, `trials/NAME/` its run, whose logs have its scores.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from restore_dit.config import dump
from restore_dit.data.storage import Location, exists, list_names, locate, read_bytes, write_bytes_atomically
from restore_dit.errors import UserError
from tuning.config import SweepConfig

Status = Literal["running", "finished", "stopped", "failed"]
"""stopped: early, since it lagged behind. Only `running` is taken up again."""

SCORES = ("psnr", "mae", "ssim", "sam", "seconds")


class Score(BaseModel):
    """A validation of a trial: missing pixels on the published scale, SAM in degrees, seconds that sampling a series
    took."""

    step: int
    psnr: float
    mae: float
    ssim: float
    sam: float
    seconds: float


class Turn(BaseModel):
    """Where a trial of a population left what it had, and went on from the state of another."""

    step: int
    source: str
    """The other trial."""
    before: dict[str, Any]
    """The values it had until then."""


class Trial(BaseModel):
    """A trial's record."""

    name: str
    values: dict[str, Any]
    status: Status = "running"
    best: Score | None = None
    """The validation of the highest PSNR, whose weights are the trial's model."""
    step: int = 0
    """Optimiser steps that it came to."""
    error: str | None = None
    repeats: str | None = None
    """The trial whose values it has, with another seed."""
    seed: int | None = None
    paused_at: int = 0
    """In a population the end of the last generation that it came to, its state saved."""
    turns: list[Turn] = []
    """The first one first; `values` are those since the last."""

    @property
    def run_name(self) -> str:
        """The run that it is in now."""
        return self.run_at(None)

    def run_at(self, step: int | None) -> str:
        """The run in which it came to this step, or is now: a turn begins a new one."""
        passed = [turn for turn in self.turns if step is None or turn.step < step]
        return f"{self.name}-from-{passed[-1].step:06d}" if passed else self.name

    def values_at(self, step: int) -> dict[str, Any]:
        """The values with which it came to this step."""
        return next((turn.before for turn in self.turns if step <= turn.step), self.values)

    @property
    def best_values(self) -> dict[str, Any]:
        """The values with which it came to its best score."""
        return self.values_at(self.best.step) if self.best else self.values

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.status != "running"


@dataclass(frozen=True)
class SweepFolder:
    """The folder `output/name` of a sweep."""

    location: Location
    trials: Location = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "trials", self.location.join("trials"))

    @classmethod
    def of(cls, sweep: SweepConfig) -> SweepFolder:
        """Where this sweep lies."""
        return cls(locate(sweep.output).join(sweep.name))

    def claim(self, sweep: SweepConfig) -> None:
        """Begins the sweep, or goes on with it; more trials may be asked for.

        Raises:
            UserError: another sweep lies there.
        """
        place = self.location.join("sweep.yaml")
        if exists(place):
            for key, (old, new) in _differences(self.sweep(), sweep).items():
                raise UserError(
                    f"{self.location.uri}: this sweep was started with {key}={old!r}, not {new!r}; "
                    "choose another name=…"
                )
        write_bytes_atomically(place, dump(sweep).encode())

    def sweep(self) -> SweepConfig:
        """What the sweep in this folder is."""
        import yaml

        from restore_dit.config.loading import build

        place = self.location.join("sweep.yaml")
        if not exists(place):
            raise UserError(f"{self.location.uri}: no sweep there (no sweep.yaml)")
        try:
            tree = yaml.safe_load(read_bytes(place))
        except yaml.YAMLError as error:
            raise UserError(f"{place.uri}: not YAML: {' '.join(str(error).split())}") from None
        return build(SweepConfig, tree, place.uri)

    def write(self, trial: Trial) -> None:
        """Keeps a trial's record."""
        write_bytes_atomically(self.trials.join(f"{trial.name}.json"), trial.model_dump_json(indent=2).encode())

    def read(self) -> list[Trial]:
        """The records of all trials, in the order of their names."""
        found = []
        for name in sorted(list_names(self.trials)):
            if name.endswith(".json"):
                place = self.trials.join(name)
                try:
                    found.append(Trial.model_validate_json(read_bytes(place)))
                except ValidationError:
                    raise UserError(f"{place.uri}: damaged; delete it, and its trial is run again") from None
        return found

    def curve(self, trial: Trial) -> list[Score]:
        """The validations of a trial that trains, as its runs have logged them."""
        ends = [turn.step for turn in trial.turns]
        curve = []
        for begin, end in itertools.pairwise([-1, *ends, sys.maxsize]):
            logged = self._logged(trial.run_at(begin + 1))
            curve += [score for score in logged if begin < score.step <= end]
        return curve

    def _logged(self, run: str) -> list[Score]:
        place = self.trials.join(run, "logs", "metrics.jsonl")
        if not exists(place):
            return []
        lines = [json.loads(line) for line in read_bytes(place).splitlines()]
        wanted = [line for line in lines if all(f"validation/{score}" in line for score in SCORES)]
        return [Score(step=line["step"], **{name: line[f"validation/{name}"] for name in SCORES}) for line in wanted]


def best_of(scores: Sequence[Score]) -> Score | None:
    """The one of the highest PSNR."""
    return max(scores, key=lambda score: score.psnr, default=None)


def _differences(old: SweepConfig, new: SweepConfig) -> dict[str, tuple[Any, Any]]:
    """What makes it another sweep: not how many trials, nor how many at a time."""
    changeable = {"output": True, "concurrent": True, "max_failures": True, "search": {"trials"}, "seeds": True}
    changeable |= {"run": {"output": True, "name": True, "workers": True, "tracking": True}}
    trees = [json.loads(sweep.model_dump_json(exclude=changeable)) for sweep in (old, new)]  # type: ignore[arg-type]
    return {key: (trees[0][key], trees[1][key]) for key in trees[0] if trees[0][key] != trees[1][key]}

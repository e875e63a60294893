"""Records of a sweep's trials as files, from which a killed sweep resumes and its report is made.

`trials/NAME.json` is a trial's record, `trials/NAME/` its run, whose logs contain its scores.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from restore_dit.config import dump
from restore_dit.config.loading import build, differences
from restore_dit.data.storage import Location, exists, list_names, locate, read_bytes, write_bytes_atomically
from restore_dit.errors import UserError
from tuning.config import SweepConfig

Status = Literal["running", "finished", "stopped", "failed"]
"""stopped: early, because of poor scores. Only `running` trials are resumed."""

SCORES = ("psnr", "mae", "ssim", "sam", "seconds")


class Score(BaseModel):
    """Validation scores of a trial: over missing pixels, on the published scale, SAM in degrees; `seconds` is the
    sampling time per series."""

    step: int
    psnr: float
    mae: float
    ssim: float
    sam: float
    seconds: float


class Exploit(BaseModel):
    """A point at which a trial of a population copied the state of another and changed its values."""

    step: int
    source: str
    """Name of the copied trial."""
    before: dict[str, Any]
    """The trial's values until then."""


class Trial(BaseModel):
    """Record of a trial."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    name: str
    values: dict[str, Any]
    status: Status = "running"
    best: Score | None = None
    """The validation with the highest PSNR, whose weights are the trial's model."""
    step: int = 0
    """Optimiser steps completed."""
    error: str | None = None
    repeats: str | None = None
    """Name of the trial that this one repeats with another seed."""
    seed: int | None = None
    paused_at: int = 0
    """In a population: the last generation end that it reached and at which its state was saved."""
    exploits: list[Exploit] = Field([], alias="turns")
    """In chronological order; `values` are those since the last one. The records on disk name them `turns`."""

    @property
    def run_name(self) -> str:
        """Name of the current run."""
        return self.run_at(None)

    def run_at(self, step: int | None) -> str:
        """Name of the run in which it reached this step; None: of the current run. Each copy starts a new run."""
        passed = [exploit for exploit in self.exploits if step is None or exploit.step < step]
        return f"{self.name}-from-{passed[-1].step:06d}" if passed else self.name

    def values_at(self, step: int) -> dict[str, Any]:
        """The values with which it reached this step."""
        return next((exploit.before for exploit in self.exploits if step <= exploit.step), self.values)

    @property
    def best_values(self) -> dict[str, Any]:
        """The values with which it reached its best score."""
        return self.values_at(self.best.step) if self.best else self.values

    @property
    def is_over(self) -> bool:
        """Whether the trial has ended."""
        return self.status != "running"


@dataclass(frozen=True)
class SweepFolder:
    """The folder of a sweep, `output/name`."""

    location: Location
    trials: Location = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "trials", self.location.join("trials"))

    @classmethod
    def of(cls, sweep: SweepConfig) -> SweepFolder:
        """The folder of this sweep."""
        return cls(locate(sweep.output).join(sweep.name))

    def claim(self, sweep: SweepConfig) -> None:
        """Starts or resumes the sweep in this folder. A resumed sweep may have more trials.

        Raises:
            UserError: the folder contains a different sweep.
        """
        place = self.location.join("sweep.yaml")
        if exists(place):
            for key, (old, new) in differences(_fixed(self.sweep()), _fixed(sweep)).items():
                raise UserError(
                    f"{self.location.uri}: this sweep was started with {key}={old!r}, not {new!r}; "
                    "choose another name=…"
                )
        write_bytes_atomically(place, dump(sweep).encode())

    def sweep(self) -> SweepConfig:
        """Configuration of the sweep in this folder.

        Raises:
            UserError: there is none, or it is damaged.
        """
        import yaml

        place = self.location.join("sweep.yaml")
        if not exists(place):
            raise UserError(f"{self.location.uri}: not a sweep (no sweep.yaml)")
        try:
            tree = yaml.safe_load(read_bytes(place))
        except yaml.YAMLError as error:
            raise UserError(f"{place.uri}: not YAML: {' '.join(str(error).split())}") from None
        return build(SweepConfig, tree, place.uri)

    def write(self, trial: Trial) -> None:
        """Writes a trial's record."""
        write_bytes_atomically(self.trials.join(f"{trial.name}.json"), trial.model_dump_json(indent=2).encode())

    def read(self) -> list[Trial]:
        """The records of all trials, sorted by name.

        Raises:
            UserError: a record is damaged.
        """
        found = []
        for name in sorted(list_names(self.trials)):
            if name.endswith(".json"):
                place = self.trials.join(name)
                try:
                    found.append(Trial.model_validate_json(read_bytes(place)))
                except ValidationError:
                    raise UserError(f"{place.uri}: damaged; delete it to run its trial again") from None
        return found

    def curve(self, trial: Trial) -> list[Score]:
        """Validation scores of a trained trial, from the logs of its runs."""
        ends = [exploit.step for exploit in trial.exploits]
        curve = []
        # Each copy starts a new run, so the curve is put together from the runs, each for its own steps.
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
    """The score with the highest PSNR; None if there is none."""
    return max(scores, key=lambda score: score.psnr, default=None)


def _fixed(sweep: SweepConfig) -> dict[str, Any]:
    """The settings that must be equal when a sweep is resumed."""
    changeable = {"output": True, "concurrent": True, "max_failures": True, "search": {"trials"}, "seeds": True}
    changeable |= {"run": {"output": True, "name": True, "workers": True, "tracking": True}}
    return json.loads(sweep.model_dump_json(exclude=changeable))  # type: ignore[arg-type]

"""Configuration of a sweep: a base run, a search space, and a search method."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from restore_dit.config import RunConfig, Section, load
from restore_dit.config.examples import Fraction, Positive
from restore_dit.config.loading import build, read_yaml
from restore_dit.config.settings import changes_of, merge
from restore_dit.errors import UserError
from tuning.space import CHANGEABLE, Range, Space, keys_of, may_change, require_valid


class SearchConfig(Section):
    """How the values of the next trial are chosen."""

    algorithm: Literal["tpe", "random", "grid"] = Field(
        "tpe", description="tpe: near values of good earlier trials; random; grid: every combination once"
    )
    trials: Positive = Field(16, description="number of trials; grid: the maximum")
    objectives: tuple[Literal["psnr", "seconds"], ...] = Field(
        ("psnr",), description="what tpe optimises: PSNR alone, or PSNR and sampling time"
    )
    startup_trials: Positive = Field(8, description="tpe: number of random trials at the beginning")
    seed: int = Field(0, description="seed of the search")

    @model_validator(mode="after")
    def _seeks_quality(self) -> SearchConfig:
        if "psnr" not in self.objectives or len(set(self.objectives)) != len(self.objectives):
            raise ValueError("objectives are [psnr] or [psnr, seconds]")
        return self


class StoppingConfig(Section):
    """Asynchronous successive halving (ASHA, Li et al. 2020): poor trials are stopped early."""

    grace_steps: Positive = Field(100, description="minimum number of optimiser steps of every trial")
    reduction: float = Field(3.0, gt=1, description="reduction factor: at each rung, the best 1/reduction continue")


class PopulationConfig(Section):
    """Population-based training (Jaderberg et al. 2017): after each generation, the worst trials copy the state of the
    best ones (exploit) and perturb their values (explore)."""

    every_steps: Positive = Field(100, description="optimiser steps per generation")
    share: float = Field(
        0.25, gt=0, le=0.5, description="share of the trials that is replaced, and that is copied: worst and best"
    )
    fresh: Fraction = Field(0.25, description="probability that a value is resampled from the space, not perturbed")


class SeedsConfig(Section):
    """Repetition of the best trials with other seeds, to tell real differences from chance."""

    best: int = Field(0, ge=0, description="number of best trials to repeat; 0: none")
    repeats: Positive = Field(2, description="additional seeds per trial")


class SweepConfig(Section):
    """A sweep. It is saved as `sweep.yaml` in the sweep's folder."""

    name: str = Field("sweep", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the sweep")
    output: str = Field("sweeps", description="URI of the parent folder; the sweep is stored in output/name")
    model: str | None = Field(
        None, description="URI of a trained model: trials do not train but only sample this model"
    )
    run: RunConfig = Field(RunConfig(), description="base configuration of all trials")
    space: Space = Field(
        default_factory=dict,
        description="key of a run → its possible values: a list (values), a range (low, high) or bundles",
    )
    search: SearchConfig = SearchConfig()
    stopping: StoppingConfig | None = Field(None, description="early stopping; none: every trial trains to its end")
    population: PopulationConfig | None = Field(
        None, description="population-based training; none: trials are independent"
    )
    seeds: SeedsConfig = SeedsConfig()
    concurrent: Positive | None = Field(
        None, description="concurrent trials; none: as many as the cluster has room for"
    )
    max_failures: int = Field(1, ge=0, description="retries of a failed trial")

    @model_validator(mode="after")
    def _consistent(self) -> SweepConfig:
        if self.search.algorithm == "grid":
            for name, parameter in self.space.items():
                if isinstance(parameter, Range) and not parameter.is_discrete:
                    raise ValueError(f"space.{name}: a grid requires values, a step or integers")
        if self.model is not None:
            for name, parameter in self.space.items():
                for value in parameter.every():
                    for key in parameter.changes(name, value):
                        if key not in SAMPLING_KEYS:
                            raise ValueError(
                                f"space.{name}: {key} requires training, but with 'model' nothing is trained; "
                                f"available keys: {', '.join(SAMPLING_KEYS)}"
                            )
            if self.stopping or self.population or self.seeds.best:
                raise ValueError(
                    "stopping, population and seeds require trials that train, but with 'model' nothing is trained"
                )
        if self.population is not None:
            self._population_is_possible(self.population)
        return self

    def _population_is_possible(self, population: PopulationConfig) -> None:
        if self.stopping or self.seeds.best:
            raise ValueError(
                "population cannot be combined with stopping or seeds: its trials end together, with changed values"
            )
        if self.search.algorithm == "tpe":
            raise ValueError(
                "population requires search.algorithm 'random' or 'grid': all its trials start at once, before "
                "there is a result"
            )
        if self.search.trials < 2:
            raise ValueError("population requires search.trials=2 or more")
        if population.every_steps % self.run.training.validate_every:
            raise ValueError(
                f"population.every_steps {population.every_steps} must be a multiple of run.training.validate_every "
                f"{self.run.training.validate_every}"
            )
        if not any(may_change(name, parameter) for name, parameter in self.space.items()):
            raise ValueError(
                "population requires a parameter that may change during training, such as "
                "training.optimiser.learning_rate"
            )
        for name, parameter in self.space.items():
            for key in keys_of(name, parameter):
                if key.startswith(LENGTHS):
                    raise ValueError(
                        f"space.{name}: {key} changes the number of steps, which must be the same in a population"
                    )
            for key in parameter.when:
                if not may_change(name, parameter) and key.startswith(CHANGEABLE):
                    raise ValueError(
                        f"space.{name}: is fixed during training, so '{key}' in its 'when' must be as well"
                    )


LENGTHS = (
    "training.epochs",
    "training.batch_size",
    "data.examples_per_tile",
    "data.split.",
    "data.targets.",
    "data.store",
)
"""Prefixes of the keys on which a run's number of steps depends."""

SAMPLING_KEYS = ("diffusion.sampler", "diffusion.sampling_steps")
"""Keys that may be changed for a trained model."""


def shipped_sweeps() -> dict[str, Path]:
    """The shipped sweeps, by name."""
    folder = Path(str(resources.files("tuning") / "shipped"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_sweep(config: str | None, overrides: Iterable[str]) -> SweepConfig:
    """Loads a sweep from a YAML file, or a shipped sweep by name, and applies `key=value` overrides.

    A file may contain `base: NAME`, the file of a run or a shipped configuration, which `run` then modifies.

    Raises:
        UserError: no such file, invalid YAML, an unknown key, an invalid value, or a space with an invalid combination.
    """
    name = config or "small"
    path = Path(name)
    if not path.is_file():
        if name not in shipped_sweeps():
            raise UserError(f"{name}: no such file; shipped sweeps: {', '.join(shipped_sweeps())}", status=2)
        path = shipped_sweeps()[name]
    tree: dict[str, Any] = merge(read_yaml(path), changes_of(SweepConfig, overrides))
    base = tree.pop("base", None)
    run = tree.get("run") or {}
    if isinstance(run, dict) and run.get("output"):
        raise UserError(
            f"{name}: run.output={run['output']}: trials are stored below the sweep; set output instead", status=2
        )
    if base is not None:
        run = merge(load(str(base)).model_dump(mode="json"), run)
    tree["run"] = run | {"output": ""}
    sweep = build(SweepConfig, tree, name)
    if sweep.model is None:  # otherwise validated against the model's own run, which is read where the sweep runs
        require_valid(sweep.space, sweep.run)
    return sweep

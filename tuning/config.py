"""What a sweep is: a run, what of it is searched, and how."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from restore_dit.config import RunConfig, Section, load
from restore_dit.config.examples import Fraction, Positive
from restore_dit.config.loading import apply_overrides, build, merge, read_yaml
from restore_dit.errors import UserError
from tuning.space import CHANGEABLE, Range, Space, keys_of, may_change, require_valid


class SearchConfig(Section):
    """How the next trial's values are found."""

    algorithm: Literal["tpe", "random", "grid"] = Field(
        "tpe", description="tpe: where earlier trials were good; random; grid: every combination once"
    )
    trials: Positive = Field(16, description="how many; grid: at most")
    objectives: tuple[Literal["psnr", "seconds"], ...] = Field(
        ("psnr",), description="what tpe seeks: high PSNR, or also little sampling time"
    )
    startup_trials: Positive = Field(8, description="tpe: trials at random before it begins to learn from them")
    seed: int = 0

    @model_validator(mode="after")
    def _seeks_quality(self) -> SearchConfig:
        if "psnr" not in self.objectives or len(set(self.objectives)) != len(self.objectives):
            raise ValueError("objectives are [psnr] or [psnr, seconds]")
        return self


class StoppingConfig(Section):
    """Asynchronous successive halving (ASHA, Li et al. 2020): trials that lag behind end early."""

    grace_steps: Positive = Field(100, description="optimiser steps that every trial gets")
    reduction: float = Field(3.0, gt=1, description="of the trials that come to a rung one in so many goes on")


class PopulationConfig(Section):
    """Population-based training (Jaderberg et al. 2017): after every so many steps the trials that lag behind go on
    from the state of those that lead, with values near theirs."""

    every_steps: Positive = Field(100, description="optimiser steps in a generation")
    share: float = Field(0.25, gt=0, le=0.5, description="of the trials, at either end: the last follow the first")
    fresh: Fraction = Field(0.25, description="how often a value is drawn anew from the space, and not near the old")


class SeedsConfig(Section):
    """The best trials once more with other seeds, so that luck is not taken for a finding."""

    best: int = Field(0, ge=0, description="how many of the best trials; 0: none")
    repeats: Positive = Field(2, description="further seeds of each")


class SweepConfig(Section):
    """A sweep: rebuilt from the file saved in its folder."""

    name: str = Field("sweep", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    output: str = Field("sweeps", description="URI of the folder that holds sweeps; the sweep is output/name")
    model: str | None = Field(
        None, description="URI of a model directory: nothing is trained, this model is sampled in every trial's way"
    )
    run: RunConfig = Field(RunConfig(), description="what every trial has in common")
    space: Space = Field(default_factory=dict)
    search: SearchConfig = SearchConfig()
    stopping: StoppingConfig | None = Field(None, description="none: every trial trains to its end")
    population: PopulationConfig | None = Field(
        None, description="the trials are a population that trains together; none: each by itself"
    )
    seeds: SeedsConfig = SeedsConfig()
    concurrent: Positive | None = Field(None, description="trials at a time; none: as many as the cluster has room for")
    max_failures: int = Field(1, ge=0, description="times that a trial which fails is tried again")

    @model_validator(mode="after")
    def _consistent(self) -> SweepConfig:
        if self.search.algorithm == "grid":
            for name, parameter in self.space.items():
                if isinstance(parameter, Range) and not parameter.is_discrete:
                    raise ValueError(f"space.{name}: a grid needs values, a step or whole numbers")
        if self.model is not None:
            for name, parameter in self.space.items():
                for value in parameter.every():
                    for key in parameter.changes(name, value):
                        if key not in SAMPLING_KEYS:
                            raise ValueError(
                                f"space.{name}: {key} needs training, and with 'model' nothing is trained; there "
                                f"are {', '.join(SAMPLING_KEYS)}"
                            )
            if self.stopping or self.population or self.seeds.best:
                raise ValueError(
                    "stopping, population and seeds are for trials that train; with 'model' nothing is trained"
                )
        if self.population is not None:
            self._population_is_possible(self.population)
        return self

    def _population_is_possible(self, population: PopulationConfig) -> None:
        if self.stopping or self.seeds.best:
            raise ValueError("population goes without stopping and seeds: its trials end together, with changed values")
        if self.search.algorithm == "tpe":
            raise ValueError(
                "population begins with search.algorithm 'random' or 'grid': all its trials begin at once, before "
                "anything is known"
            )
        if self.search.trials < 2:
            raise ValueError("population needs search.trials=2 at least")
        if population.every_steps % self.run.training.validate_every:
            raise ValueError(
                f"population.every_steps {population.every_steps} must be a multiple of run.training.validate_every "
                f"{self.run.training.validate_every}"
            )
        if not any(may_change(name, parameter) for name, parameter in self.space.items()):
            raise ValueError(
                "population needs a parameter that may change while a trial trains, such as "
                "training.optimiser.learning_rate"
            )
        for name, parameter in self.space.items():
            for key in keys_of(name, parameter):
                if key.startswith(LENGTHS):
                    raise ValueError(
                        f"space.{name}: {key} changes how many steps a trial has, which a population shares"
                    )
            for key in parameter.when:
                if not may_change(name, parameter) and key.startswith(CHANGEABLE):
                    raise ValueError(f"space.{name}: stays as it is in a population, and so must '{key}' in its 'when'")


LENGTHS = (
    "training.epochs",
    "training.batch_size",
    "data.examples_per_tile",
    "data.split.",
    "data.targets.",
    "data.store",
)
"""How the keys begin that a run's number of steps depends on."""

SAMPLING_KEYS = ("diffusion.sampler", "diffusion.sampling_steps")
"""What of a trained model may be otherwise."""


def shipped_sweeps() -> dict[str, Path]:
    """The sweeps that come with the package, by name."""
    folder = Path(str(resources.files("tuning") / "shipped"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_sweep(config: str | None, overrides: list[str]) -> SweepConfig:
    """The sweep described by a YAML file (or the name of a shipped one) and `key=value` overrides.

    A file may begin with `base: NAME`, a run's file or shipped configuration, which `run` then changes.

    Raises:
        UserError: no such file, bad YAML, unknown key, bad value, a space that the configuration would refuse.
    """
    name = config or "small"
    path = Path(name)
    if not path.is_file():
        if name not in shipped_sweeps():
            raise UserError(f"{name}: no such file; shipped sweeps: {', '.join(shipped_sweeps())}", status=2)
        path = shipped_sweeps()[name]
    tree: dict[str, Any] = apply_overrides(read_yaml(path), overrides)
    base = tree.pop("base", None)
    run = tree.get("run") or {}
    if isinstance(run, dict) and run.get("output"):
        raise UserError(f"{name}: run.output={run['output']}: trials lie below the sweep; set output", status=2)
    if base is not None:
        run = merge(load(str(base)).model_dump(mode="json"), run)
    tree["run"] = run | {"output": ""}
    sweep = build(SweepConfig, tree, name)
    if sweep.model is None:  # else on the model's own run, which is read where the sweep runs
        require_valid(sweep.space, sweep.run)
    return sweep

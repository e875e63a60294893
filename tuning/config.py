"""What a sweep is: a run, what of it is searched, and how."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from restore_dit.config import RunConfig, Section, load
from restore_dit.config.loading import apply_overrides, build, merge, read_yaml
from restore_dit.config.tree import Positive
from restore_dit.errors import UserError
from tuning.space import Range, Space, require_valid


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
            if self.stopping or self.seeds.best:
                raise ValueError("stopping and seeds are for trials that train; with 'model' nothing is trained")
        return self


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

"""All jobs by name: how their configurations are read, and which keys hold file or folder addresses.

Importing this module is cheap, because it imports no job.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from restore_dit.config import RunConfig, load
from restore_dit.config.cloud_training import CloudTrainingConfig
from restore_dit.config.clouds import DetectionConfig
from restore_dit.config.cube_mapping import load_cube_mapping
from restore_dit.config.cubes import CubesConfig
from restore_dit.config.jobs import SHIPPED_MODEL, EvaluationConfig, ReconstructionConfig
from restore_dit.config.loading import load_section
from restore_dit.config.pastis import PastisConfig
from restore_dit.config.simulation import SimulationJobConfig
from restore_dit.errors import UserError
from tuning.config import load_sweep

ConfigT = TypeVar("ConfigT", bound=BaseModel)

Read = Callable[[str | None, list[str]], BaseModel]
"""(configuration file, `key=value` …) → the validated configuration."""


@dataclass(frozen=True)
class Place:
    """A configuration key that holds the address of a file or folder, or a list of addresses."""

    key: str
    required: bool = True
    """Whether the job needs a value."""
    web: bool = False
    """Whether http(s) addresses are allowed."""
    small_file: bool = False
    """Whether it is a file small enough to be sent along with the job."""
    named: Callable[[str], Any] | None = None
    """If the value may also be the name of something shipped with this package: loads it by name."""
    shipped: str | None = None
    """Name of something shipped with this package, which is available wherever the job runs."""

    def values(self, config: BaseModel) -> Iterator[str]:
        """The non-empty addresses under this key."""
        value: Any = config
        for part in self.key.split("."):
            value = getattr(value, part)
        for address in (value,) if isinstance(value, str) else value or ():
            if address:
                yield address


@dataclass(frozen=True)
class Job:
    """A job, run by `python -m jobs.NAME`."""

    name: str
    read: Read
    places: tuple[Place, ...]


def section(config: type[ConfigT]) -> Callable[[str | None, list[str]], ConfigT]:
    """A reader for a configuration of this type."""
    return lambda path, overrides: load_section(config, overrides, Path(path) if path else None)


def run_config(path: str | None, overrides: list[str]) -> RunConfig:
    """Reads the configuration of a training run from a file or by the name of a shipped one, by default `default`."""
    return load(path or "default", overrides)


JOBS = {
    job.name: job
    for job in (
        Job("simulate", section(SimulationJobConfig), (Place("output"),)),
        Job(
            "ingest_cubes",
            section(CubesConfig),
            (Place("source"), Place("output"), Place("mapping", small_file=True, named=load_cube_mapping)),
        ),
        Job(
            "ingest",
            section(PastisConfig),
            (
                Place("source", web=True),
                Place("output"),
                Place("cloud_masks", required=False),
                Place("bad_frames", required=False, small_file=True),
            ),
        ),
        Job("clouds", section(DetectionConfig), (Place("store"), Place("weights", required=False))),
        Job("train_clouds", section(CloudTrainingConfig), (Place("stores"), Place("output"))),
        Job(
            "train",
            run_config,
            (Place("data.store"), Place("output"), Place("training.init_from", required=False, shipped=SHIPPED_MODEL)),
        ),
        Job(
            "evaluate",
            section(EvaluationConfig),
            (
                Place("model", shipped=SHIPPED_MODEL),
                Place("beside", required=False, shipped=SHIPPED_MODEL),
                Place("store"),
                Place("output"),
            ),
        ),
        Job(
            "reconstruct",
            section(ReconstructionConfig),
            (
                Place("model", shipped=SHIPPED_MODEL),
                Place("input"),
                Place("output"),
                Place("mapping", small_file=True, named=load_cube_mapping),
            ),
        ),
        Job(
            "tune",
            load_sweep,
            (
                Place("run.data.store", required=False),
                Place("model", required=False, shipped=SHIPPED_MODEL),
                Place("output"),
                Place("run.output", required=False),
                Place("run.training.init_from", required=False, shipped=SHIPPED_MODEL),
            ),
        ),
    )
}
"""Every job that can be submitted."""


def find_job(name: str) -> Job:
    """The job with this name.

    Raises:
        UserError: there is none; the message suggests the closest name.
    """
    if name in JOBS:
        return JOBS[name]
    near = difflib.get_close_matches(name.replace("-", "_"), JOBS, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UserError(f"no job '{name}': {hint}available jobs: {', '.join(JOBS)}", status=2)

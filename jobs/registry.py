"""All jobs, each declared once: its configuration, arguments, addresses, help and example.

`restore-dit JOB …`, `restore-dit submit JOB …` and `python -m jobs.JOB …` all come from these declarations. Importing
this module is cheap, because it imports no job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from restore_dit.config import RunConfig, load, shipped
from restore_dit.config.cloud_training import CloudTrainingConfig
from restore_dit.config.clouds import DetectionConfig
from restore_dit.config.cube_mapping import load_cube_mapping
from restore_dit.config.ingestion import CubesConfig, PastisConfig, load_cubes
from restore_dit.config.jobs import SHIPPED_MODEL, EvaluationConfig, ReconstructionConfig
from restore_dit.config.loading import load_section
from restore_dit.config.settings import argument_names
from restore_dit.config.simulation import SimulationJobConfig
from restore_dit.errors import UserError
from tuning.config import SweepConfig, load_sweep, shipped_sweeps

Read = Callable[[str | None, Iterable[str]], BaseModel]
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
    """A job. Its module has a function `run(config, display)` that returns the exit status."""

    name: str
    summary: str
    config: type[BaseModel]
    places: tuple[Place, ...]
    arguments: tuple[str, ...] = ()
    """Keys whose values may be given by position."""
    example: str = ""
    """Words of an example, after the job's name."""
    load: Read | None = None
    """Reads the configuration, if a file does not simply override the defaults."""
    configurations: tuple[str, ...] = ()
    """Names of the shipped configurations; the first is the default."""
    has_preview: bool = False
    """Whether the module also has a function `preview(config)`: lines for `--dry-run` about the input."""

    @property
    def module(self) -> str:
        """The module that runs the job, for example `jobs.train_clouds`."""
        return f"jobs.{self.name.replace('-', '_')}"

    def read(self, path: str | None, overrides: Iterable[str]) -> BaseModel:
        """The configuration from a file, or the name of a shipped one, and `key=value` overrides.

        Raises:
            UserError: no such file, bad YAML, an unknown or ambiguous key, a bad value.
        """
        if self.load is not None:
            return self.load(path or next(iter(self.configurations), None), overrides)
        return load_section(self.config, overrides, Path(path) if path else None)

    def require_places(self, config: BaseModel) -> None:
        """Raises `UserError` if an address that the job needs is not set."""
        lacking = [place.key for place in self.places if place.required and not any(place.values(config))]
        if lacking:
            verb = "is" if len(lacking) == 1 else "are"
            by_key = [f"{key}=URI" for key in lacking if key not in self.arguments]
            usage = [self.name, *argument_names(self.config, self.arguments), *by_key, "[key=value | --key value]…"]
            raise UserError(f"{' and '.join(lacking)} {verb} not set; usage: {' '.join(usage)}", status=2)


_OUTPUT = Place("output")
_MODEL = Place("model", shipped=SHIPPED_MODEL)
_MAPPING = Place("mapping", small_file=True, named=load_cube_mapping)

JOBS = {
    job.name: job
    for job in (
        Job(
            "simulate",
            "Simulate tiles into a tile store, or in other layouts.",
            SimulationJobConfig,
            (
                _OUTPUT,
                Place("dates", required=False, small_file=True),
                Place("bad_frames", required=False, small_file=True),
            ),
            ("output",),
            "stores/sim --tiles 24",
        ),
        Job(
            "ingest-cubes",
            "Ingest data cubes (NetCDF, Zarr, GeoTIFF) into a tile store.",
            CubesConfig,
            (Place("source"), _OUTPUT, _MAPPING),
            ("source", "output"),
            "data/site stores/site",
            load=load_cubes,
            has_preview=True,
        ),
        Job(
            "ingest-pastis",
            "Ingest PASTIS-R, unpacked or as the published ZIP, into a tile store.",
            PastisConfig,
            (
                Place("source", web=True),
                _OUTPUT,
                Place("cloud_masks", required=False),
                Place("bad_frames", required=False, small_file=True),
            ),
            ("source", "output"),
            "'https://zenodo.org/records/5735646/files/PASTIS-R.zip?download=1' s3://bucket/pastis",
        ),
        Job(
            "detect-clouds",
            "Compute cloud and shadow masks for the tiles of a store.",
            DetectionConfig,
            (Place("store"), Place("weights", required=False)),
            ("store",),
            "stores/site --weights models/clouds",
        ),
        Job(
            "train-clouds",
            "Train a cloud-detection network. Ctrl-C saves the state; the same command resumes.",
            CloudTrainingConfig,
            (Place("stores"), _OUTPUT),
            ("stores",),
            "stores/labelled stores/sim --output models/clouds",
        ),
        Job(
            "train",
            "Train a model. Ctrl-C saves the state; the same command resumes.",
            RunConfig,
            (Place("data.store"), _OUTPUT, Place("training.init_from", required=False, shipped=SHIPPED_MODEL)),
            example="--config own_site data.store=stores/site name=site",
            load=lambda path, overrides: load(path or "default", overrides),
            configurations=("default", *sorted(set(shipped()) - {"default"})),
        ),
        Job(
            "evaluate",
            "Evaluate a model by a protocol, against baselines, as a table and figures.",
            EvaluationConfig,
            (_MODEL, Place("beside", required=False, shipped=SHIPPED_MODEL), Place("store"), _OUTPUT),
            ("model", "store"),
            "runs/site/model stores/site --protocol paper --output evaluation",
        ),
        Job(
            "reconstruct",
            "Fill the gaps of series, and write them as Cloud-Optimized GeoTIFFs or NetCDF.",
            ReconstructionConfig,
            (_MODEL, Place("input"), _OUTPUT, _MAPPING),
            ("model", "input", "output"),
            "runs/site/model stores/site clear format=netcdf",
        ),
        Job(
            "tune",
            "Run a hyperparameter sweep; the same command resumes a stopped one.",
            SweepConfig,
            (
                Place("run.data.store", required=False),
                Place("model", required=False, shipped=SHIPPED_MODEL),
                _OUTPUT,
                Place("run.output", required=False),
                Place("run.training.init_from", required=False, shipped=SHIPPED_MODEL),
            ),
            example="--config small run.data.store=stores/sim name=first",
            load=load_sweep,
            configurations=("small", *sorted(set(shipped_sweeps()) - {"small"})),
        ),
    )
}
"""Every job, by name."""

"""The registry knows every job, and every key of theirs that names a place."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from jobs.registry import JOBS, find_job
from restore_dit.config import dump
from tests.messages import refused

JOBS_FOLDER = Path(__file__).resolve().parents[2] / "jobs"


def keys_of_places(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Keys whose description says that a URI stands there."""
    for name, field in section.model_fields.items():
        if "URI" in (field.description or ""):
            yield prefix + name
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from keys_of_places(part, f"{prefix}{name}.")


def test_every_job_is_there():
    modules = {path.stem for path in JOBS_FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    assert modules == set(JOBS)


@pytest.mark.parametrize("name", JOBS)
def test_every_key_that_names_a_place_is_known(name):
    config = JOBS[name].read(None, [])
    assert set(keys_of_places(type(config))) <= {place.key for place in JOBS[name].places}
    for place in JOBS[name].places:
        list(place.values(config))  # the key exists


@pytest.mark.parametrize("name", JOBS)
def test_a_job_reads_what_the_registry_reads(name, tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text(dump(JOBS[name].read(None, [])))
    assert importlib.import_module(f"jobs.{name}").main(["--config", str(file), "--dry-run"]) == 0
    assert capsys.readouterr().out == file.read_text()


def test_a_wrong_name_is_answered_with_the_nearest():
    with refused("train-cloud", "'train_clouds'", status=2):
        find_job("train-cloud")
    with refused("xyz", "simulate, ingest_cubes", status=2):
        find_job("xyz")

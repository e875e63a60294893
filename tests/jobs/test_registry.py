"""Every job is declared in the registry, with every key of its configuration that holds an address."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from jobs.entry import main
from jobs.registry import JOBS
from restore_dit.config import dump

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
    modules = {f"jobs.{path.stem}" for path in JOBS_FOLDER.glob("*.py") if "__main__" in path.read_text("utf-8")}
    assert modules == {job.module for job in JOBS.values()}


@pytest.mark.parametrize("name", JOBS)
def test_every_key_that_names_a_place_is_known(name):
    config = JOBS[name].read(None, [])
    assert type(config) is JOBS[name].config
    assert set(keys_of_places(type(config))) <= {place.key for place in JOBS[name].places}
    for place in JOBS[name].places:
        list(place.values(config))  # the key exists


@pytest.mark.parametrize("name", JOBS)
def test_a_job_reads_what_the_registry_reads(name, tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text(dump(JOBS[name].read(None, [])))
    assert main(name, ["--config", str(file), "--dry-run"]) == 0
    shown = capsys.readouterr().out.splitlines(keepends=True)
    assert "".join(line for line in shown if not line.startswith("#")) == file.read_text()

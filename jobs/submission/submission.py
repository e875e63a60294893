"""Prepares a job for a cluster: checks its configuration, packs everything that it needs, and gives it a readable id,
for example `train-site-20261122-231500-ab12`."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel

from jobs.registry import Job
from jobs.submission.package import PACKAGES, pack, project_files, project_root
from jobs.submission.places import SENT_FOLDER, as_on_the_cluster, refuse_secrets
from restore_dit import __version__, threads
from restore_dit.config import RunConfig, dump
from restore_dit.errors import UserError
from restore_dit.program import COMMIT_VARIABLE, commit_of

CONFIG_FILE = f"{SENT_FOLDER}/config.yaml"

SECONDS_TO_STOP = "seconds_to_stop"
"""Key in a job's metadata."""


@dataclass(frozen=True)
class Submission:
    """Everything that is sent to the cluster."""

    job_id: str
    entrypoint: str
    config: BaseModel
    """The configuration as the job will read it."""
    package: bytes
    files: tuple[str, ...]
    """Paths in the package, sorted."""
    metadata: dict[str, str]
    environment: dict[str, str]


def prepare(job: Job, config: BaseModel, seconds_to_stop: int) -> Submission:
    """Prepares a submission, and checks everything that can be checked before anything is sent.

    Args:
        job: the job.
        config: its configuration, validated.
        seconds_to_stop: time between the signal that asks the job to stop (on which a training saves its state) and
            the one that kills it.

    Raises:
        UserError: an address that the cluster cannot reach, a secret in the configuration, or too large a package.
    """
    refuse_secrets(config)
    run = run_name(job, config)
    config, attached = as_on_the_cluster(job, config)
    attached[CONFIG_FILE] = dump(config).encode()
    project = project_files(project_root())
    commit = commit_of(project_root(), *PACKAGES)
    return Submission(
        job_id=new_job_id(job, run),
        entrypoint=f"python -m {job.module} --config {CONFIG_FILE}",
        config=config,
        package=pack(project, attached),
        files=tuple(sorted({*project, *attached})),
        metadata={"job": job.name, "run": run, "version": __version__, SECONDS_TO_STOP: str(seconds_to_stop)}
        | ({"commit": commit} if commit else {}),
        # This process's environment is not sent: settings belong into the configuration, and credentials are the
        # cluster's. Ray reads the stop time when it stops the job, and a training records the commit. The variables
        # that control how threads wait only take effect if they are set when a process starts.
        environment=threads.ray_environment({"RAY_JOB_STOP_WAIT_TIME_S": str(seconds_to_stop)})
        | ({COMMIT_VARIABLE: commit} if commit else {}),
    )


_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def run_name(job: Job, config: BaseModel) -> str:
    """Name of this run of a job: a training's name, else the last part of the address of its output or store."""
    if isinstance(config, RunConfig):
        return config.name
    places = {place.key: next(place.values(config), "") for place in job.places}
    return (places.get("output") or places.get("store") or "").rstrip("/").rpartition("/")[2]


def new_job_id(job: Job, run: str) -> str:
    """A new id made of job, run, time (UTC) and four random hexadecimal digits."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", run)[:40].strip("-.")
    now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return "-".join(part for part in (job.name, readable, now, secrets.token_hex(2)) if part)


def check_job_id(job_id: str) -> None:
    """Raises `UserError` if this cannot be a job id. Ids become part of URLs."""
    if not _JOB_ID.fullmatch(job_id):
        raise UserError(f"'{job_id}': not a job id; `restore-dit job list` lists them", status=2)

"""Prepares a job for a cluster: checks its configuration and packs everything that it needs."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from jobs.registry import Job
from jobs.submission.names import new_job_id, run_name
from jobs.submission.package import pack
from jobs.submission.places import SENT_FOLDER, as_on_the_cluster, refuse_secrets
from jobs.submission.project import PACKAGES, project_files, project_root
from restore_dit import __version__, threads
from restore_dit.config import dump
from restore_dit.training.tracking.provenance import COMMIT_VARIABLE, commit_of

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

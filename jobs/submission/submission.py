"""Prepares a job for a cluster: checks its configuration, packs everything that it needs, and gives it a readable id,
for example `train-site-20261122-231500-ab12`.

The package is one ZIP of the project (the content of its wheel, from a checkout or an installation), the configuration
and small files. Packing is deterministic: the same content gives the same bytes, so that a cluster that already has the
package does not get it again.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

import jobs
from jobs.registry import Job
from jobs.submission.places import SENT_FOLDER, as_on_the_cluster, refuse_secrets
from restore_dit import __version__, threads
from restore_dit.config import RunConfig, dump
from restore_dit.errors import UserError
from restore_dit.program import COMMIT_VARIABLE, commit_of
from tuning.config import SweepConfig

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
    # Before anything else: Ray shows a job's configuration and its entrypoint to every user of the dashboard.
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
    """Name of this run of a job: a training's or sweep's name, else the last part of the address of its output or
    store."""
    if isinstance(config, RunConfig | SweepConfig):
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


MAX_BYTES = 32 << 20
"""Maximum size of a package; the project is about 3 MB. Ray keeps packages in the memory of the cluster's head."""

_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def pack(project: Mapping[str, Path], files: Mapping[str, bytes]) -> bytes:
    """The content of the ZIP.

    Args:
        project: files of the project, by their path in the ZIP.
        files: contents of further files, by their path in the ZIP.

    Raises:
        UserError: a file cannot be read, or the package is too large.
    """
    sizes: dict[str, int] = {}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in sorted({*project, *files}):
            data = files[name] if name in files else _read(project[name])
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # always Unix, so that the bytes do not depend on the platform
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, compresslevel=6)
            sizes[name] = archive.infolist()[-1].compress_size
    if content.tell() > MAX_BYTES:
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
        raise UserError(
            f"the package for the cluster is {content.tell() / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f} MB; the "
            f"largest files: {', '.join(f'{name} ({sizes[name] / 1e6:.0f} MB)' for name in largest)}; move files "
            "that are not code out of the packages, or add them to .gitignore"
        )
    return content.getvalue()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


PACKAGES = ("restore_dit", "jobs", "tuning", "serving", "cluster")
SUFFIXES = {".py", ".typed", ".yaml", ".yml", ".json", ".html", ".css", ".js", ".npz", ".svg", ".png", ".sh"}
"""Suffixes of code and of the files it reads. Keys or data files among them are never sent."""

MODELS = ("restore_dit", "models")
"""Folder of the shipped models, which is sent whole."""

SECONDS_FOR_GIT = 60


def project_root() -> Path:
    """The folder that contains the packages: a checkout, or `site-packages`."""
    return Path(jobs.__file__).resolve().parent.parent


def project_files(root: Path) -> dict[str, Path]:
    """The files to send, sorted, by their path below `root`. In a checkout, files that git ignores are left out.

    Raises:
        UserError: git cannot list the files.
    """
    names = _files_in_git(root) if (root / ".git").exists() else _files_in_folders(root)
    return {name: root / name for name in sorted(names) if _belongs(Path(name)) and (root / name).is_file()}


def _belongs(name: Path) -> bool:
    is_hidden = any(part.startswith(".") or part == "__pycache__" for part in name.parts)
    return (name.suffix in SUFFIXES or name.parts[:2] == MODELS) and not is_hidden


def _files_in_folders(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for package in PACKAGES for path in (root / package).rglob("*")]


def _files_in_git(root: Path) -> list[str]:
    """Files tracked by git, and untracked ones that it does not ignore."""
    # Variables such as GIT_DIR, which are set while a hook runs, would point to another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *PACKAGES]
    try:
        result = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, timeout=SECONDS_FOR_GIT, check=False
        )
    except FileNotFoundError:
        raise UserError(f"{root}: a git checkout, but git, which lists the files to send, is not installed") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{root}: git did not list its files within {SECONDS_FOR_GIT} s") from None
    if result.returncode:
        reason = (result.stderr.decode(errors="replace").splitlines() or ["no reason given"])[0]
        raise UserError(f"{root}: git could not list its files: {reason}")
    return [name.decode("utf-8", errors="surrogateescape") for name in result.stdout.split(b"\0") if name]

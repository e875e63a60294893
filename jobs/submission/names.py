"""Human-readable job ids, for example `train-site-20261122-231500-ab12`."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime

from pydantic import BaseModel

from jobs.registry import Job
from restore_dit.config import RunConfig
from restore_dit.errors import UserError

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

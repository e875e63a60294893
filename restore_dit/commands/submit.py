"""Commands that submit jobs to a cluster, list, follow and stop them."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from restore_dit.commands.arguments import command, group, overrides
from restore_dit.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

    from jobs.submission.client import ClusterClient
    from jobs.submission.submission import Submission
    from restore_dit.commands.arguments import Commands

INTERRUPTED = 130
"""Exit status after Ctrl-C; the job goes on."""


def add_to(commands: Commands) -> None:
    """`submit`, `job list`, `job status`, `job logs`, `job stop`."""
    parser = command(
        commands,
        "submit",
        submit,
        "Run a job on a cluster and follow its log. Ctrl-C leaves it running.",
        "submit train --config default data.store=s3://bucket/store output=s3://bucket/runs name=big "
        "--address http://127.0.0.1:8265",
    )
    parser.add_argument("job", metavar="JOB", help=f"one of: {', '.join(_job_names())}")
    parser.add_argument(
        "--config",
        metavar="F",
        help="YAML file; for train, also the name of a shipped configuration (default: default)",
    )
    _add_address(parser)
    parser.add_argument("--detach", action="store_true", help="print the job's id and exit without following it")
    parser.add_argument(
        "--cpus", type=float, default=0, metavar="N",
        help="CPUs to reserve for the job's driver, on any node (default: none; the driver runs on the head)",
    )  # fmt: skip
    parser.add_argument("--gpus", type=float, default=0, metavar="N", help="GPUs to reserve for the job's driver")
    parser.add_argument(
        "--stop-wait", type=int, default=300, metavar="SECONDS",
        help="how long a stopped job may take to save its state before it is killed (default: 300)",
    )  # fmt: skip
    overrides(parser)

    jobs = group(commands, "job", "List, follow and stop the jobs of a cluster.")
    parser = command(jobs, "job list", list_jobs, "List the jobs of a cluster, latest last.", "job list")
    _add_address(parser)
    for name, run, description in (
        ("status", status, "Show the status of a job. Exits with 0 whatever the status is."),
        ("logs", logs, "Print the log of a job."),
        ("stop", stop, "Stop a job. A training saves its state first."),
    ):
        parser = command(jobs, f"job {name}", run, description, f"job {name} train-site-20261122-231500-ab12")
        parser.add_argument("id", metavar="ID", help="the job's id, as printed by submit and list")
        if name == "logs":
            parser.add_argument(
                "--follow", action="store_true", help="follow the log until the job ends, then exit with its status"
            )
        _add_address(parser)


def submit(given: argparse.Namespace) -> int:
    from jobs.registry import find_job
    from jobs.submission.submission import prepare

    for option, value in (("--cpus", given.cpus), ("--gpus", given.gpus), ("--stop-wait", given.stop_wait)):
        if value < 0:
            raise UserError(f"{option} {value:g}: must be at least 0", status=2)
    job = find_job(given.job)
    submission = prepare(job, job.read(given.config, given.overrides), given.stop_wait)
    if given.dry_run:
        return _show(submission)
    client = _connect(given)
    commands = _commands(submission.job_id, client.target.url)
    try:
        _send(submission, client, given)
    except KeyboardInterrupt:
        started = f"job {submission.job_id} may have started\n{commands}"
        _say(f"\n{started if client.start_asked else 'no job was started'}")
        return INTERRUPTED
    try:
        if given.detach:
            print(submission.job_id)
            _say(commands)
            return 0
        _say(f"job {submission.job_id}")
        return _follow(client, submission.job_id)
    except KeyboardInterrupt:
        _say(f"\njob {submission.job_id} keeps running\n{commands}")
        return INTERRUPTED


def list_jobs(given: argparse.Namespace) -> int:
    rows = [("ID", "STATUS", "STARTED (UTC)", "DURATION")]
    rows += [(str(job.submission_id), str(job.status), _started(job), _duration(job)) for job in _connect(given).jobs()]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())
    return 0


def status(given: argparse.Namespace) -> int:
    from jobs.submission.names import check_job_id
    from jobs.submission.outcome import outcome

    check_job_id(given.id)
    client = _connect(given)
    job = client.job(given.id)
    print(f"job: {job.submission_id}\nstatus: {job.status}")
    if job.status.is_terminal():
        print(f"outcome: {outcome(job, client.log(given.id).splitlines()[-200:]).text}")
    print(f"started: {_started(job)} UTC\nduration: {_duration(job)}")
    for name, value in (job.metadata or {}).items():
        print(f"{name}: {value}")
    return 0


def logs(given: argparse.Namespace) -> int:
    from jobs.submission.names import check_job_id

    check_job_id(given.id)
    client = _connect(given)
    if not given.follow:
        print(client.log(given.id), end="")
        return 0
    client.job(given.id)  # raises `UserError` if there is none
    try:
        return _follow(client, given.id)
    except KeyboardInterrupt:
        _say(f"\njob {given.id} keeps running\n{_commands(given.id, client.target.url)}")
        return INTERRUPTED


def stop(given: argparse.Namespace) -> int:
    from jobs.submission.names import check_job_id
    from jobs.submission.submission import SECONDS_TO_STOP

    check_job_id(given.id)
    client = _connect(given)
    job = client.job(given.id)
    if job.status.is_terminal():
        print(f"{given.id}: already {job.status}")
        return 0
    wait = int((job.metadata or {}).get(SECONDS_TO_STOP, 3))  # a job submitted by another program gets Ray's default
    client.stop(given.id)
    begin = time.monotonic()
    if job.status != "PENDING":
        _say(f"stop requested; the job has up to {wait} s to save its state")
    while not job.status.is_terminal():
        waited = time.monotonic() - begin
        if job.status == "PENDING" and waited > 5:
            print(f"{given.id}: {job.status}; it has not started yet and will be stopped as soon as it does")
            return 0
        if waited > wait + 60:
            raise UserError(f"{given.id}: still {job.status} {wait + 60} s after the stop request")
        time.sleep(0.5)
        job = client.job(given.id)
    print(f"{given.id}: {job.status}")
    return 0


def _send(submission: Submission, client: ClusterClient, given: argparse.Namespace) -> None:
    from jobs.submission.client import Unreachable

    _say(f"sending {len(submission.files)} files, {len(submission.package) / 1e6:.1f} MB, to {client.target.url}")
    try:
        client.submit(
            submission.job_id, submission.entrypoint, submission.package, submission.metadata, submission.environment,
            cpus=given.cpus, gpus=given.gpus,
        )  # fmt: skip
    except Unreachable as error:
        raise UserError(
            f"{error} The job may have started: once the cluster answers, `restore-dit job status {submission.job_id}` "
            "tells"
        ) from None


def _connect(given: argparse.Namespace) -> ClusterClient:
    from jobs.submission.client import ClusterClient
    from jobs.submission.target import find_target

    return ClusterClient(find_target(given.address))


def _follow(client: ClusterClient, job_id: str) -> int:
    """Writes the log until the job ends. Returns 0 if it succeeded, else raises `UserError` with the job's status."""
    from jobs.submission.follow import Followed, follow
    from jobs.submission.outcome import outcome

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    followed = Followed(write)
    try:
        details = follow(client, job_id, followed, _say)
    except UserError as error:
        raise UserError(f"{error}; the job may still be running. {_commands(job_id, client.target.url)}") from None
    ended = outcome(details, followed.last_lines())
    if ended.status:
        raise UserError(f"job {job_id} {ended.text}", status=ended.status)
    _say(f"job {job_id} {ended.text}")
    return 0


def _show(submission: Submission) -> int:
    from restore_dit.config import dump

    print(dump(submission.config), end="")
    print(f"# {submission.entrypoint}")
    print(f"# with {len(submission.files)} files, {len(submission.package) / 1e6:.1f} MB packed")
    return 0


def _commands(job_id: str, url: str) -> str:
    """The commands to follow and to stop a job, ready to copy."""
    address = f"--address {shlex.quote(url)}"
    return (
        f"to follow: restore-dit job logs {job_id} --follow {address}\nto stop: restore-dit job stop {job_id} {address}"
    )


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address",
        metavar="URL",
        help="the cluster's dashboard, for example http://127.0.0.1:8265 (default: RAY_API_SERVER_ADDRESS, else the "
        "cluster of `restore-dit cluster up`)",
    )


def _job_names() -> list[str]:
    from jobs.registry import JOBS

    return list(JOBS)


def _started(job: JobDetails) -> str:
    return datetime.fromtimestamp(job.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") if job.start_time else "-"


def _duration(job: JobDetails) -> str:
    if not job.start_time:
        return "-"
    seconds = int((job.end_time or time.time() * 1000) - job.start_time) // 1000
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _say(line: str) -> None:
    """Prints to standard error, because standard output is the job's log."""
    print(line, file=sys.stderr, flush=True)

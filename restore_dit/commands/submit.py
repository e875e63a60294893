"""Commands that submit jobs to a cluster, list, follow and stop them."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from jobs.entry import job_command
from jobs.registry import JOBS, Job
from restore_dit.command_line import Commands, command, show
from restore_dit.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

    from jobs.submission.client import ClusterClient
    from jobs.submission.submission import Submission

INTERRUPTED = 130
"""Exit status after Ctrl-C; the job goes on."""

OPTIONS = (
    _ADDRESS := click.Option(
        ["--address"],
        metavar="URL",
        help="the cluster's dashboard, for example http://127.0.0.1:8265 (default: RAY_API_SERVER_ADDRESS, else the "
        "cluster of `restore-dit cluster up`)",
    ),
    click.Option(["--detach"], is_flag=True, help="print the job's id and exit without following it"),
    click.Option(
        ["--cpus"],
        type=click.FloatRange(min=0),
        default=0,
        metavar="N",
        help="CPUs to reserve for the job's driver, on any node (default: none; the driver runs on the head)",
    ),
    click.Option(
        ["--gpus"], type=click.FloatRange(min=0), default=0, metavar="N", help="GPUs to reserve for the job's driver"
    ),
    click.Option(
        ["--stop-wait"],
        type=click.IntRange(min=0),
        default=300,
        show_default=True,
        metavar="SECONDS",
        help="how long a stopped job may take to save its state before it is killed",
    ),
)
"""Options of `submit`."""


def _submit(
    job: Job,
    config: str | None,
    dry_run: bool,
    overrides: Sequence[str],
    address: str | None,
    detach: bool,
    cpus: float,
    gpus: float,
    stop_wait: int,
) -> int:
    from jobs.submission.submission import prepare

    submission = prepare(job, job.read(config, overrides), stop_wait)
    if dry_run:
        show(submission.config)
        print(f"# {submission.entrypoint}")
        print(f"# with {len(submission.files)} files, {len(submission.package) / 1e6:.1f} MB packed")
        return 0
    client = _connect(address)
    commands = _commands(submission.job_id, client.target.url)
    try:
        _send(submission, client, cpus, gpus)
    except KeyboardInterrupt:
        started = f"job {submission.job_id} may have started\n{commands}"
        _say(f"\n{started if client.start_asked else 'no job was started'}")
        return INTERRUPTED
    try:
        if detach:
            print(submission.job_id)
            _say(commands)
            return 0
        _say(f"job {submission.job_id}")
        return _follow(client, submission.job_id)
    except KeyboardInterrupt:
        _say(f"\njob {submission.job_id} keeps running\n{commands}")
        return INTERRUPTED


@click.pass_context
def _options_before_the_job(context: click.Context, **_: object) -> None:
    given = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    context.default_map = dict.fromkeys(JOBS, given)


submit = Commands(
    "submit",
    former={"ingest": "ingest-pastis", "clouds": "detect-clouds"},
    help="Run a job on a cluster and follow its log. Ctrl-C leaves it running.",
    callback=_options_before_the_job,
    params=list(OPTIONS),
    commands=[
        job_command(job, _submit, OPTIONS, f"… --address http://127.0.0.1:8265, with the words of restore-dit {name}")
        for name, job in JOBS.items()
    ],
)

_ID = click.Argument(["job_id"], metavar="ID", help="the job's id, as printed by submit and list")
_FOLLOW = click.Option(["--follow"], is_flag=True, help="follow the log until the job ends, then exit with its status")
EXAMPLE_ID = "train-site-20261122-231500-ab12"


@command("list", params=[_ADDRESS])
def list_jobs(address: str | None) -> int:
    """List the jobs of a cluster, latest last."""
    rows = [("ID", "STATUS", "STARTED (UTC)", "DURATION")]
    rows += [
        (str(job.submission_id), str(job.status), _started(job), _duration(job)) for job in _connect(address).jobs()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())
    return 0


@command("status", params=[_ID, _ADDRESS], example=EXAMPLE_ID)
def status(job_id: str, address: str | None) -> int:
    """Show the status of a job. Exits with 0 whatever the status is."""
    from jobs.submission.follow import outcome

    client = _connect(address, job_id)
    job = client.job(job_id)
    print(f"job: {job.submission_id}\nstatus: {job.status}")
    if job.status.is_terminal():
        print(f"outcome: {outcome(job, client.log(job_id).splitlines()[-200:]).text}")
    print(f"started: {_started(job)} UTC\nduration: {_duration(job)}")
    for name, value in (job.metadata or {}).items():
        print(f"{name}: {value}")
    return 0


@command("logs", params=[_ID, _FOLLOW, _ADDRESS], example=EXAMPLE_ID)
def logs(job_id: str, follow: bool, address: str | None) -> int:
    """Print the log of a job."""
    client = _connect(address, job_id)
    if not follow:
        print(client.log(job_id), end="")
        return 0
    client.job(job_id)  # raises `UserError` if there is none
    try:
        return _follow(client, job_id)
    except KeyboardInterrupt:
        _say(f"\njob {job_id} keeps running\n{_commands(job_id, client.target.url)}")
        return INTERRUPTED


@command("stop", params=[_ID, _ADDRESS], example=EXAMPLE_ID)
def stop(job_id: str, address: str | None) -> int:
    """Stop a job. A training saves its state first."""
    from jobs.submission.submission import SECONDS_TO_STOP

    client = _connect(address, job_id)
    job = client.job(job_id)
    if job.status.is_terminal():
        print(f"{job_id}: already {job.status}")
        return 0
    wait = int((job.metadata or {}).get(SECONDS_TO_STOP, 3))  # a job submitted by another program gets Ray's default
    client.stop(job_id)
    begin = time.monotonic()
    if job.status != "PENDING":
        _say(f"stop requested; the job has up to {wait} s to save its state")
    while not job.status.is_terminal():
        waited = time.monotonic() - begin
        if job.status == "PENDING" and waited > 5:
            print(f"{job_id}: {job.status}; it has not started yet and will be stopped as soon as it does")
            return 0
        if waited > wait + 60:
            raise UserError(f"{job_id}: still {job.status} {wait + 60} s after the stop request")
        time.sleep(0.5)
        job = client.job(job_id)
    print(f"{job_id}: {job.status}")
    return 0


job = Commands("job", help="List, follow and stop the jobs of a cluster.", commands=[list_jobs, status, logs, stop])


def _send(submission: Submission, client: ClusterClient, cpus: float, gpus: float) -> None:
    from jobs.submission.client import Unreachable

    _say(f"sending {len(submission.files)} files, {len(submission.package) / 1e6:.1f} MB, to {client.target.url}")
    try:
        client.submit(
            submission.job_id, submission.entrypoint, submission.package, submission.metadata, submission.environment,
            cpus=cpus, gpus=gpus,
        )  # fmt: skip
    except Unreachable as error:
        raise UserError(
            f"{error} The job may have started: once the cluster answers, `restore-dit job status {submission.job_id}` "
            "tells"
        ) from None


def _connect(address: str | None, job_id: str | None = None) -> ClusterClient:
    """The cluster. An id of one of its jobs is checked before."""
    from jobs.submission.client import ClusterClient
    from jobs.submission.submission import check_job_id
    from jobs.submission.target import find_target

    if job_id is not None:
        check_job_id(job_id)
    return ClusterClient(find_target(address))


def _follow(client: ClusterClient, job_id: str) -> int:
    """Writes the log until the job ends. Returns 0 if it succeeded, else raises `UserError` with the job's status."""
    from jobs.submission.follow import Followed, follow, outcome

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


def _commands(job_id: str, url: str) -> str:
    """The commands to follow and to stop a job, ready to copy."""
    address = f"--address {shlex.quote(url)}"
    return (
        f"to follow: restore-dit job logs {job_id} --follow {address}\nto stop: restore-dit job stop {job_id} {address}"
    )


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

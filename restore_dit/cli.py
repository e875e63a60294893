"""The program `restore-dit`: a command for each job, and the other commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from jobs.entry import job_command
from jobs.registry import JOBS
from restore_dit import __version__
from restore_dit.command_line import Commands, run_program
from restore_dit.commands.cluster import cluster
from restore_dit.commands.exchange import export, import_checkpoint
from restore_dit.commands.inspect import inspect
from restore_dit.commands.quickstart import quickstart
from restore_dit.commands.reports import compare_clouds, sweep_report
from restore_dit.commands.serve import serve
from restore_dit.commands.submit import job, submit

FORMER = {
    "ingest cube": "ingest-cubes",
    "ingest pastis": "ingest-pastis",
    "ingest": "ingest-cubes or ingest-pastis",
    "clouds detect": "detect-clouds",
    "clouds train": "train-clouds",
    "clouds compare": "compare-clouds",
    "clouds": "detect-clouds, train-clouds or compare-clouds",
    "tune report": "sweep-report",
}
"""Former names of commands."""

program = Commands(
    "restore-dit",
    former=FORMER,
    help="Fill the gaps of Sentinel-2 time series from clear observations, Sentinel-1 radar and dates.",
    epilog="Run restore-dit COMMAND --help for the arguments and settings of a command and an example.",
)
click.version_option(__version__, message="%(prog)s %(version)s")(program)
for one in (
    *map(job_command, JOBS.values()),
    *(inspect, export, import_checkpoint, compare_clouds, sweep_report, serve, cluster, submit, job, quickstart),
):
    program.add_command(one)


def main(words: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status: 0, 1 (failed), 2 (wrong usage) or 130 (interrupted)."""
    return run_program(program, words, "restore-dit")


if __name__ == "__main__":
    sys.exit(main())

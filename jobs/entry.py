"""How a job becomes a command, and the entry point of `python -m jobs.JOB`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module

import click

from jobs.registry import JOBS, Job
from restore_dit.command_line import SettingsCommand, run_program, show
from restore_dit.program import console


def job_command(
    job: Job, run: Callable[..., int] | None = None, options: Sequence[click.Option] = (), example: str | None = None
) -> SettingsCommand:
    """The command for a job.

    Args:
        job: the job.
        run: called with the job, `config` (path or name), `dry_run`, `overrides`, and the values of `options`; by
            default, the job is run in this process.
        options: further options of the command.
        example: words of an example after the command's name; by default, the job's.
    """
    names = f", or a shipped configuration: {', '.join(job.configurations)}" if job.configurations else ""
    default = f" (default: {job.configurations[0]})" if job.configurations else ""
    return SettingsCommand(
        job.name,
        job.config,
        job.arguments,
        defaults=lambda: job.read(None, []),
        callback=partial(run or run_here, job),
        help=job.summary,
        example=job.example if example is None else example,
        params=[
            click.Option(["--config"], metavar="FILE", help=f"YAML file with settings{names}{default}"),
            click.Option(["--dry-run"], is_flag=True, help="print the resolved configuration and exit"),
            *options,
        ],
    )


def run_here(job: Job, config: str | None, dry_run: bool, overrides: Sequence[str]) -> int:
    """Runs a job in this process and returns its exit status."""
    resolved = job.read(config, overrides)
    if dry_run:
        show(resolved)
        for line in import_module(job.module).preview(resolved) if job.has_preview else ():
            print(f"# {line}")
        return 0
    job.require_places(resolved)
    status: int = import_module(job.module).run(resolved, console())
    return status


def main(name: str, words: Sequence[str] | None = None) -> int:
    """Runs `python -m jobs.JOB` and returns its exit status.

    Args:
        name: the job's name.
        words: command-line arguments; None: those of the process.
    """
    job = JOBS[name]
    return run_program(job_command(job), words, f"python -m {job.module}")

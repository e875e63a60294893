"""What the entry points of all jobs share: command-line arguments and the reading of their configuration."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel
from rich.console import Console

from restore_dit.config import dump
from restore_dit.errors import UserError
from restore_dit.program import console, exit_status

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def job_main(
    job: str,
    description: str,
    read: Callable[[str | None, list[str]], ConfigT],
    run: Callable[[ConfigT, Console], int],
    argv: list[str] | None,
) -> int:
    """Runs `python -m jobs.JOB --config F key=value … [--dry-run]` and returns the exit status.

    Args:
        job: the job's name.
        description: shown by `--help`.
        read: loads the configuration from the file, if any, and the overrides.
        run: runs the job and returns its exit status.
        argv: command-line arguments; None: those of the process.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m jobs.{job}",
        description=description,
        epilog=f"example: python -m jobs.{job} --config {job}.yaml key=value",
    )
    parser.add_argument("--config", help="YAML file with the configuration")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that override the file")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved configuration and exit")
    given = parser.parse_intermixed_args(argv)

    def start() -> int:
        config = read(given.config, given.overrides)
        if given.dry_run:
            print(dump(config), end="")
            return 0
        return run(config, console())

    return exit_status(start, f"jobs.{job}")


def require(config: BaseModel, *keys: str) -> None:
    """Raises `UserError` if one of these keys of a job's configuration is empty."""
    for key in keys:
        if not getattr(config, key):
            raise UserError(f"{key} is not set: give {key}=URI", status=2)

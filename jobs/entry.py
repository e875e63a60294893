"""What every job's entry point shares: its arguments, its exit status, and the Ray cluster that it runs on."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel
from rich.console import Console

from cluster.local.interpreter import require_startable
from jobs.worker_logs import forward_errors_only
from restore_dit import threads
from restore_dit.config import dump
from restore_dit.errors import UserError

ConfigT = TypeVar("ConfigT", bound=BaseModel)

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def job_main(
    job: str,
    description: str,
    read: Callable[[str | None, list[str]], ConfigT],
    run: Callable[[ConfigT, Console], int],
    argv: list[str] | None,
) -> int:
    """The entry point of a job, `python -m jobs.JOB --config F key=value … [--dry-run]`: its exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m jobs.{job}",
        description=description,
        epilog=f"example: python -m jobs.{job} --config {job}.yaml key=value",
    )
    parser.add_argument("--config", help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the configuration")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved configuration and stop")
    given = parser.parse_intermixed_args(argv)

    def start() -> int:
        config = read(given.config, given.overrides)
        if given.dry_run:
            print(dump(config), end="")
            return 0
        return run(config, console())

    return exit_status(start, f"jobs.{job}")


def exit_status(run: Callable[[], int], program: str) -> int:
    """Runs; what the user can mend becomes one line on standard error."""
    threads.watch()
    try:
        return run()
    except UserError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # keeps the interpreter's last flush quiet
        return 1


def require(config: BaseModel, *keys: str) -> None:
    """Raises `UserError` where one of these keys of a job's configuration is empty."""
    for key in keys:
        if not getattr(config, key):
            raise UserError(f"{key} is not set: give {key}=URI", status=2)


def console() -> Console:
    """Where progress goes."""
    return Console(markup=False, emoji=False)  # brackets and colons in the name of a folder are its own


def connect(display: Console | None = None) -> None:
    """The cluster that this job was submitted to, that `RAY_ADDRESS` names or that runs on this machine; where there
    is none, one on this machine that ends with the job. Says which, once.

    Of what workers write, errors reach this program's own output where the cluster is not its own.

    Raises:
        UserError: nobody answers at `RAY_ADDRESS`, it is no address, or the token is missing or wrong.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return
    # That this machine's own cluster asks for a token is as it should be, and no news.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    address = os.environ.get("RAY_ADDRESS") or None
    if not address:
        require_startable(sys.executable)
        _give_token()
    listening = address is not None and _require_listener(address)
    try:
        if address:
            ray.init(logging_level=logging.WARNING)
        else:
            with threads.as_ray_processes_get_it(os.environ):
                ray.init(logging_level=logging.WARNING, include_dashboard=False, log_to_driver=False)
    except ray.exceptions.AuthenticationError as error:
        raise UserError(
            f"{_named(address)}no usable token: {_sentence(error.message)}: set RAY_AUTH_TOKEN_PATH to the file of the "
            "cluster's token"
        ) from None
    except (ConnectionError, ValueError) as error:
        if not address:
            raise  # nothing that the user named
        raise UserError(f"{_named(address)}{_problem(error, listening)}: {_sentence(error)}") from None
    if address:
        forward_errors_only()
    from restore_dit.data.cluster_job import description

    display = display or console()
    display.print(f"cluster: {description()}", highlight=False, soft_wrap=True)


def _give_token() -> None:
    """Ray keeps the token of a cluster that it starts in the user's home. Where that cannot be written, the cluster has
    one that only this process and those that it starts know."""
    if any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE")):
        return
    try:
        file = Path.home() / ".ray" / "auth_token"
        file.parent.mkdir(parents=True, exist_ok=True)
        usable = os.access(file, os.R_OK) or (not file.exists() and os.access(file.parent, os.W_OK | os.X_OK))
    except (OSError, RuntimeError):  # no home at all
        usable = False
    if not usable:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _require_listener(address: str) -> bool:
    """Raises `UserError` where nobody listens: Ray itself tries for minutes. Whether the address could be tried."""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "://" in address:
        return False  # such as `auto`
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(f"{_named(address)}no cluster answers there: {error.strerror or error}") from None
    except UnicodeError as error:
        raise UserError(f"{_named(address)}not the address of a cluster: {error}") from None
    return True


def _problem(error: Exception, listening: bool) -> str:
    if isinstance(error, ValueError):
        return "not the address of a cluster"
    if listening:  # Ray says no more of a token that is refused
        return "a server is there, but lets nobody in (a cluster? is RAY_AUTH_TOKEN_PATH the file of its token?)"
    return "no cluster answers there"


def _named(address: str | None) -> str:
    return f"RAY_ADDRESS={address}: " if address else ""


def _sentence(reason: object) -> str:
    """The first of what Ray says, in one line; the rest is advice at length."""
    return " ".join(str(reason).split()).partition(". ")[0]

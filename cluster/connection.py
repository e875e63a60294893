"""Connects a job or a service to Ray, and filters what of the workers' output is forwarded to a job's own: errors with
tracebacks, and autoscaler messages.

By default, Ray forwards every line of every process, including its own messages. The cluster's log files keep them all.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.local.node import require_startable
from restore_dit import threads
from restore_dit.errors import UserError
from restore_dit.private_interfaces import filter_worker_lines, hide_token_notice
from restore_dit.program import console


def connect(display: Console | None = None) -> None:
    """Connects to Ray and prints which cluster is used. Does nothing if already connected.

    The cluster is the one that `RAY_ADDRESS` names (Ray sets it for submitted jobs), else one that already runs on this
    machine, else a new one on this machine that ends with the job. With `RAY_ADDRESS`, only the workers' errors are
    forwarded to this program's output; otherwise, none of their output is.

    Raises:
        UserError: `RAY_ADDRESS` is invalid, no cluster answers there, or the token is missing or wrong.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return
    hide_token_notice()
    address = os.environ.get("RAY_ADDRESS") or None
    if not address:
        require_startable(sys.executable)
        _give_token()
    listening = address is not None and _require_listener(address)
    try:
        if address:
            ray.init(logging_level=logging.WARNING)
        else:
            with threads.in_ray_environment(os.environ):
                ray.init(logging_level=logging.WARNING, include_dashboard=False, log_to_driver=False)
    except ray.exceptions.AuthenticationError as error:
        raise UserError(
            f"{_named(address)}missing or wrong token: {_sentence(error.message)}: set RAY_AUTH_TOKEN_PATH to the file "
            "of the cluster's token"
        ) from None
    except (ConnectionError, ValueError) as error:
        if not address:
            raise  # not caused by the user's input
        raise UserError(f"{_named(address)}{_problem(error, listening)}: {_sentence(error)}") from None
    if address:
        filter_worker_lines(WorkerLogFilter().kept)
    from restore_dit.data.cluster_job import description

    display = display or console()
    display.print(f"cluster: {description()}", highlight=False, soft_wrap=True)


def _give_token() -> None:
    """Ray stores the token of a cluster that it starts in the user's home directory. If that is not writable, this sets
    a token that only this process and its children know."""
    if any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE")):
        return
    try:
        file = Path.home() / ".ray" / "auth_token"
        file.parent.mkdir(parents=True, exist_ok=True)
        usable = os.access(file, os.R_OK) or (not file.exists() and os.access(file.parent, os.W_OK | os.X_OK))
    except (OSError, RuntimeError):  # there is no home directory
        usable = False
    if not usable:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _require_listener(address: str) -> bool:
    """Raises `UserError` if nothing listens at the address, because Ray itself would retry for minutes. Returns False
    if the address is not `HOST:PORT` and so could not be checked."""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "://" in address:
        return False  # for example `auto`
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(f"{_named(address)}no cluster answers there: {error.strerror or error}") from None
    except UnicodeError as error:
        raise UserError(f"{_named(address)}not a valid cluster address: {error}") from None
    return True


def _problem(error: Exception, listening: bool) -> str:
    if isinstance(error, ValueError):
        return "not a valid cluster address"
    if listening:  # Ray does not report a refused token as such
        return "a server answers but refuses the connection (is RAY_AUTH_TOKEN_PATH the file of this cluster's token?)"
    return "no cluster answers there"


def _named(address: str | None) -> str:
    return f"RAY_ADDRESS={address}: " if address else ""


def _sentence(reason: object) -> str:
    """The first sentence of Ray's message, on one line; the rest is lengthy advice."""
    return " ".join(str(reason).split()).partition(". ")[0]


TRACEBACK = "Traceback (most recent call last):"

_ERROR = re.compile(r"^(\S+ )*(ERROR|CRITICAL|FATAL)\b|^[\w.]*(Error|Exception|Exit|Interrupt)(:|$)|^Fatal ")
"""A line that reports an error: by its log level, or as the last line of a Python traceback."""

_JOINT = re.compile(r"^(The above exception was the direct cause|During handling of the above exception)|^$")
"""A line between the tracebacks of chained exceptions."""

_BOOKKEEPING = re.compile(r"^Unhandled error .*_StatsActor")
"""An error about Ray Data's statistics actor, which ends with the training that started it but may still be in use."""

_NAMED = ("autoscaler", "raylet")
"""Senders whose lines are all kept: they report nodes that join and leave, and workers killed for lack of memory."""


class WorkerLogFilter:
    """Selects relevant lines of a cluster's processes. It tracks which processes are in the middle of a traceback."""

    def __init__(self) -> None:
        self._within: set[tuple[Any, Any]] = set()
        self._bookkeeping: set[tuple[Any, Any]] = set()

    def kept(self, sender: tuple[Any, Any], lines: list[str]) -> Iterator[str]:
        """The relevant lines of a process. A traceback may continue in the next call. `sender`: node and process."""
        for line in lines:
            if _BOOKKEEPING.match(line):
                self._bookkeeping.add(sender)
            elif sender in self._bookkeeping:
                if _ERROR.match(line):
                    self._bookkeeping.discard(sender)
            elif TRACEBACK in line:
                self._within.add(sender)
                yield line
            elif sender in self._within:
                yield line
                if not line.startswith((" ", "\t")) and not _JOINT.match(line):
                    self._within.discard(sender)
            elif _ERROR.match(line) or sender[1] in _NAMED:
                yield line

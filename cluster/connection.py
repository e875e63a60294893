"""Connects a job or a service to Ray."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
from pathlib import Path

from rich.console import Console

from cluster.local.node import require_startable
from cluster.worker_logs import forward_errors_only
from restore_dit import threads
from restore_dit.errors import UserError
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
    # Silences the notice that the local cluster generates a token, which is expected.
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
        forward_errors_only()
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

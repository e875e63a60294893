"""Runs the service in the foreground."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import ray
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from rich.console import Console

from cluster.connection import connect
from cluster.local.node import SERVE_ENVIRONMENT
from restore_dit.errors import UserError
from serving.access import TOKEN_FILE_VARIABLE, Tokens, own_token_file, tokens_from_environment
from serving.app import NAME, build
from serving.config import ServingConfig
from serving.registry import Registry

POLL_SECONDS = 0.5

READY_SECONDS = 600

ENDED = ("DEPLOY_FAILED", "DELETING")
"""States in which an application no longer serves. In `UNHEALTHY`, Ray Serve is replacing its processes."""


def run(read: Callable[[], ServingConfig], display: Console) -> int:
    """Serves until Ctrl-C. On SIGHUP, it re-reads the configuration, the models and the tokens and replaces its
    processes one after the other, so that no request is lost.

    Raises:
        UserError: no model, a port in use, unreadable tokens, or a service that does not start or fails.
    """
    begin = time.monotonic()
    config = read()
    application, token_hint = _application(config)
    _require_free(config.host, config.port)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    os.environ.update(SERVE_ENVIRONMENT)  # inherited by a cluster that this process starts
    connect(display)
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": config.host, "port": config.port, "request_timeout_s": None},
        logging_config={"log_level": "ERROR", "enable_access_log": False},
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    hangups: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, frame: hangups.append(number))
    try:
        handle = _deploy(application)
        address = f"http://{config.host}:{config.port}"
        seconds = time.monotonic() - begin
        display.print(f"ready after {seconds:.0f} s: {address} (API documentation: {address}/docs)", soft_wrap=True)
        display.print(token_hint, highlight=False, soft_wrap=True)
        healthy = True
        while (status := _status()) not in ENDED:
            if healthy != (status != "UNHEALTHY"):
                healthy = not healthy
                display.print("all processes are running" if healthy else "a process died; Ray Serve is replacing it")
            time.sleep(POLL_SECONDS)
            if hangups:
                hangups.clear()
                handle = _replace(config, read, display) or handle
        raise UserError("the service ended unexpectedly: see Ray Serve's log")
    except KeyboardInterrupt:
        display.print("stopping", highlight=False)
        with contextlib.suppress(Exception):  # what cannot be told will be found out
            handle.close.remote().result(timeout_s=10)
        return 0
    finally:
        if os.environ.get("RAY_ADDRESS"):
            serve.shutdown()
        ray.shutdown()  # also stops a cluster that this process started


def _application(config: ServingConfig) -> tuple[Application, str]:
    """The application, after a check that its default model loads, and a hint where to find the token."""
    registry = Registry(config.models, config.default_model)
    registry.load(registry.default_name())
    tokens, hint = _tokens(config)
    return build(config, tokens), hint


def _deploy(application: Application) -> DeploymentHandle:
    try:
        handle = serve.run(application, name=NAME, route_prefix="/", logging_config={"enable_access_log": False})
    except RuntimeError as error:
        raise UserError(f"the service does not start: {' '.join(str(error).split())[-300:]}") from None
    try:
        handle.ready.remote().result(timeout_s=READY_SECONDS)
    except TimeoutError:
        raise UserError(f"the network was not loaded within {READY_SECONDS} s: see Ray Serve's log") from None
    return handle


def _status() -> str:
    found = serve.status().applications.get(NAME)
    return "DELETING" if found is None else found.status.value


def _replace(before: ServingConfig, read: Callable[[], ServingConfig], display: Console) -> DeploymentHandle | None:
    """Deploys the current configuration. If it is invalid, prints why and changes nothing."""
    begin = time.monotonic()
    try:
        config = read()
        if (config.host, config.port) != (before.host, before.port):
            raise UserError("host and port cannot be changed while the service runs")
        application, _ = _application(config)
    except UserError as error:
        display.print(f"configuration not reloaded: {error}", highlight=False, soft_wrap=True)
        return None
    display.print("replacing the service's processes", highlight=False)
    handle = _deploy(application)
    display.print(f"replaced after {time.monotonic() - begin:.0f} s", highlight=False)
    return handle


def _tokens(config: ServingConfig) -> tuple[Tokens | None, str]:
    """The tokens, and a hint where the caller finds one."""
    if config.open:
        return None, "authentication is disabled"
    found = tokens_from_environment()
    if found is not None:
        return found, "tokens: as set in the environment"
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    try:
        path = own_token_file(Path(base) / "restore-dit")
    except OSError as error:
        raise UserError(
            f"{base}: the token cannot be written there ({error.strerror}); set XDG_STATE_HOME to a writable folder, "
            f"or {TOKEN_FILE_VARIABLE} to a file of tokens"
        ) from None
    os.environ[TOKEN_FILE_VARIABLE] = str(path)
    found = tokens_from_environment()
    assert found is not None
    return found, f"token: the part after 'owner:' in {path}"


def _require_free(host: str, port: int) -> None:
    """Raises `UserError` if the address cannot be bound, for example because the port is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise UserError(f"host={host} port={port}: {error.strerror}; choose another port=…") from None

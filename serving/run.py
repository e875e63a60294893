"""The service in the foreground."""

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

from jobs.entry import connect
from restore_dit.errors import UserError
from serving.access import TOKEN_FILE_VARIABLE, Tokens, own_token_file, tokens_from_environment
from serving.app import NAME, build
from serving.config import ServingConfig
from serving.proxy import ENVIRONMENT
from serving.registry import Registry

POLL_SECONDS = 0.5

READY_SECONDS = 600

ENDED = ("DEPLOY_FAILED", "DELETING")
"""States of an application that no longer serves; one that is unhealthy gets new processes."""


def run(read: Callable[[], ServingConfig], display: Console) -> int:
    """Serves until Ctrl-C. On SIGHUP the configuration, the models and the tokens are read anew, and processes replaced
    one after the other, so that no request is lost.

    Raises:
        UserError: no model, a port that somebody has, tokens that cannot be read.
    """
    begin = time.monotonic()
    config = read()
    application, told = _application(config)
    _require_free(config.host, config.port)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    os.environ.update(ENVIRONMENT)  # of a cluster of its own
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
        display.print(f"ready after {seconds:.0f} s: {address}, its interface {address}/docs", soft_wrap=True)
        display.print(told, highlight=False, soft_wrap=True)
        well = True
        while (status := _status()) not in ENDED:
            if well != (status != "UNHEALTHY"):
                well = not well
                display.print("all processes run" if well else "a process has died; Ray Serve replaces it")
            time.sleep(POLL_SECONDS)
            if hangups:
                hangups.clear()
                handle = _replace(config, read, display) or handle
        raise UserError("the service has ended: Ray Serve's log says why")
    except KeyboardInterrupt:
        display.print("stopping", highlight=False)
        with contextlib.suppress(Exception):  # what cannot be told will be found out
            handle.close.remote().result(timeout_s=10)
        return 0
    finally:
        if os.environ.get("RAY_ADDRESS"):
            serve.shutdown()
        ray.shutdown()  # a cluster of its own ends with it


def _application(config: ServingConfig) -> tuple[Application, str]:
    """The application of a configuration whose default model can be loaded, and where its token is."""
    registry = Registry(config.models, config.default_model)
    registry.load(registry.default_name())
    tokens, told = _tokens(config)
    return build(config, tokens), told


def _deploy(application: Application) -> DeploymentHandle:
    try:
        handle = serve.run(application, name=NAME, route_prefix="/", logging_config={"enable_access_log": False})
    except RuntimeError as error:
        raise UserError(f"the service does not start: {' '.join(str(error).split())[-300:]}") from None
    try:
        handle.ready.remote().result(timeout_s=READY_SECONDS)
    except TimeoutError:
        raise UserError(f"the network is not loaded after {READY_SECONDS} s: Ray Serve's log says why") from None
    return handle


def _status() -> str:
    found = serve.status().applications.get(NAME)
    return "DELETING" if found is None else found.status.value


def _replace(before: ServingConfig, read: Callable[[], ServingConfig], display: Console) -> DeploymentHandle | None:
    """Serves what is configured now; what cannot be served is said, and changes nothing."""
    begin = time.monotonic()
    try:
        config = read()
        if (config.host, config.port) != (before.host, before.port):
            raise UserError("host and port stay as they are until the service is stopped")
        application, _ = _application(config)
    except UserError as error:
        display.print(f"goes on as before: {error}", highlight=False, soft_wrap=True)
        return None
    display.print("replacing the service's processes", highlight=False)
    handle = _deploy(application)
    display.print(f"replaced after {time.monotonic() - begin:.0f} s", highlight=False)
    return handle


def _tokens(config: ServingConfig) -> tuple[Tokens | None, str]:
    """The tokens, and where the caller finds one."""
    if config.open:
        return None, "no token is asked for"
    found = tokens_from_environment()
    if found is not None:
        return found, "tokens are those of the environment"
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    try:
        path = own_token_file(Path(base) / "restore-dit")
    except OSError as error:
        raise UserError(
            f"{base}: the token cannot be written there ({error.strerror}); set XDG_STATE_HOME to a folder of yours, "
            f"or {TOKEN_FILE_VARIABLE} to a file of tokens"
        ) from None
    os.environ[TOKEN_FILE_VARIABLE] = str(path)
    found = tokens_from_environment()
    assert found is not None
    return found, f"token: the part behind 'owner:' in {path}"


def _require_free(host: str, port: int) -> None:
    """Raises `UserError` where somebody listens there already."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise UserError(f"host={host} port={port}: {error.strerror}; choose another port=…") from None

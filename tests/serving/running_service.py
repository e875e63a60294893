"""The endpoint on the session's Ray cluster, at a free port of the loopback."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray import serve

from restore_dit.client import Client
from restore_dit.config.loading import load_section
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation import simulate_tile
from restore_dit.reconstruction.model_directory import Model, save_model
from restore_dit.series import TileSeries
from serving.access import Tokens
from serving.app import NAME, build
from serving.config import ServingConfig
from tests.integration.workers import workers

ANN, BOB = "a" * 20, "b" * 20

SMALL = ("samplers.cpus=0.3", "reconstructors.cpus=0.3", "ingresses.cpus=0.2")
"""Beside it, the session's cluster has room for other things."""


class Service:
    """One that runs."""

    def __init__(self, config: ServingConfig) -> None:
        self.config = config
        self.address = f"http://127.0.0.1:{config.port}"
        self.ann, self.bob = Client(self.address, ANN), Client(self.address, BOB)

    def run(self, *changes: str) -> None:
        """Starts it, or replaces its processes by such that have these changes."""
        self.config = load_section(ServingConfig, changes, **self.config.model_dump())
        handle = serve.run(build(self.config, Tokens({"ann": ANN, "bob": BOB})), name=NAME, route_prefix="/")
        handle.ready.remote().result(timeout_s=120)

    def ask(self, method: str, path: str, body: bytes | None = None, token: str = ANN, **headers: str):
        """(status, JSON, headers) of a plain request."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            self.address + path, body, {"Authorization": f"Bearer {token}", **headers}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.loads(answer.read() or b"null"), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read()), error.headers


@contextmanager
def running_service(models: Path | str, state: Path, *changes: str) -> Iterator[Service]:
    """A service, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = load_section(ServingConfig, [f"models={models}", f"state={state}", f"port={port}", *SMALL, *changes])
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    try:
        service = Service(config)
        service.run()
        yield service
    finally:
        serve.shutdown()


def save(model: Model, place: Path) -> Path:
    """The model as a directory."""
    save_model(str(place), model.config, model.denoiser.state_dict(), model.normalisation, {"psnr": 20.0})
    return place


def simulated(number: int, height: int = 22, width: int = 37, days: int = 60) -> TileSeries:
    """A series with gaps."""
    return simulate_tile(SimulationConfig(height=height, width=width, days=days, field_hectares=0.8), 5, number)


def replica_processes(name: str) -> list[int]:
    """The processes of this deployment, of this process's own cluster."""
    return workers(f"ServeReplica:{NAME}:{name}")

"""`restore-dit serve` as it is run: ready, a process that is killed, SIGHUP, Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from restore_dit.client import Client, LocalClient
from restore_dit.series import UNCERTAINTY
from tests.serving.running_service import save, simulated

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(280)]


class Command:
    """The command in a process of its own, with what it prints."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.log = folder / "log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"XDG_STATE_HOME": str(folder), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "restore_dit.cli", "serve", *words],
                stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True,
            )  # fmt: skip

    def wait_for(self, text: str, seconds: float = 120) -> None:
        """Until it has printed this."""
        deadline = time.monotonic() + seconds
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def replica(self, name: str) -> int:
        """The process of a deployment."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next(child.pid for child in children if f":{name}" in " ".join(child.cmdline()))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_without_a_model_the_shipped_one_is_served_and_gives_what_fill_gives(tmp_path):
    port = free_port()
    (tmp_path / "serving.yaml").write_text(f"port: {port}\n")
    command = Command(tmp_path, "--config", "serving.yaml")
    try:
        command.wait_for("ready after")
        token = (tmp_path / "restore-dit" / "token").read_text().strip().partition(":")[2]
        client, series = Client(f"http://127.0.0.1:{port}", token), simulated(1, 64, 64, days=150)
        assert series.optical.values.nbytes > 1 << 20  # its window is several times as large: gRPC sends 4 MB at most
        assert [model["name"] for model in client.models()] == ["default"]
        answer = client.reconstruct(series, outputs="uncertainty").series
        expected = LocalClient("default").reconstruct(series).series
        # Floating point differs with the number of threads.
        for one, other in (
            (answer.optical.values, expected.optical.values),
            (answer.layers[UNCERTAINTY], expected.layers[UNCERTAINTY]),
        ):
            np.testing.assert_allclose(one, other, atol=2)
    finally:
        command.process.send_signal(signal.SIGINT)
        command.process.wait(60)


def test_a_killed_process_is_replaced_and_the_service_goes_on(small_model, tmp_path):
    models = tmp_path / "models"
    save(small_model, models / "first")
    port = free_port()
    (tmp_path / "serving.yaml").write_text(f"models: {models}\nport: {port}\n")
    command = Command(tmp_path, "--config", "serving.yaml")
    try:
        command.wait_for("ready after")
        token = (tmp_path / "restore-dit" / "token").read_text().strip().partition(":")[2]
        client, series = Client(f"http://127.0.0.1:{port}", token), simulated(1)
        before = client.reconstruct(series, seed=1)

        os.kill(command.replica("Sampler"), signal.SIGKILL)
        command.wait_for("a process died")
        after = client.reconstruct(series, seed=1)
        assert (after.series.optical.values == before.series.optical.values).all()
        command.wait_for("all processes are running")

        save(small_model, models / "second")
        (tmp_path / "serving.yaml").write_text(f"models: {models}\nport: {port}\ndefault_model: third\n")
        command.process.send_signal(signal.SIGHUP)
        command.wait_for("no model third")
        (tmp_path / "serving.yaml").write_text(f"models: {models}\nport: {port}\ndefault_model: second\n")
        command.process.send_signal(signal.SIGHUP)
        command.wait_for("replaced after")
        assert client.get("/readyz")["model"] == "second"

        command.process.send_signal(signal.SIGINT)
        assert command.process.wait(60) == 0
        assert "Traceback" not in command.log.read_text()
    finally:
        if command.process.poll() is None:
            os.killpg(command.process.pid, signal.SIGKILL)

"""`restore-dit serve` as it is run: ready, a process that is killed, SIGHUP, Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from restore_dit.client import Client
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


def test_a_killed_process_is_replaced_and_the_service_goes_on(small_model, tmp_path):
    models = tmp_path / "models"
    save(small_model, models / "first")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "serving.yaml").write_text(f"models: {models}\nport: {port}\n")
    command = Command(tmp_path, "--config", "serving.yaml")
    try:
        command.wait_for("ready after")
        token = (tmp_path / "restore-dit" / "token").read_text().strip().partition(":")[2]
        client, series = Client(f"http://127.0.0.1:{port}", token), simulated(1)
        before = client.reconstruct(series, seed=1)

        os.kill(command.replica("Sampler"), signal.SIGKILL)
        command.wait_for("a process has died")
        after = client.reconstruct(series, seed=1)
        assert (after.series.optical.values == before.series.optical.values).all()
        command.wait_for("all processes run")

        save(small_model, models / "second")
        (tmp_path / "serving.yaml").write_text(f"models: {models}\nport: {port}\ndefault_model: third\n")
        command.process.send_signal(signal.SIGHUP)
        command.wait_for("goes on as before: ")
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

"""What outlives the endpoint's processes: jobs, and requests under load while they are killed or replaced."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ray import serve

from restore_dit.client import LocalClient
from restore_dit.data.exchange import netcdf
from restore_dit.series import TileSeries
from serving.app import NAME
from serving.records import State
from tests.serving.running_service import ANN, replica_processes, running_service, save, simulated

pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.timeout(280),
    pytest.mark.usefixtures("ray_cluster"),
]


@pytest.fixture(scope="module")
def models(small_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    save(small_model, folder / "small")
    save(small_model, folder / "smaller")
    return folder


@pytest.fixture(scope="module")
def service(ray_cluster, models, tmp_path_factory):
    with running_service(models, tmp_path_factory.mktemp("serving"), "limits.requests_a_minute=100000") as running:
        yield running


def test_a_job_outlives_the_service(service, models):
    cloudy = simulated(8, 128, 128, 120)  # on a fast machine too, most of it is still to do when its first part is done
    job = service.ann.submit(cloudy, steps=20)
    while not job.state()["done"]:
        time.sleep(0.05)
    serve.delete(NAME)
    try:
        kept = State.model_validate_json((Path(service.config.state) / job.id / "state.json").read_bytes())
        assert (kept.status, kept.attempts) == ("queued", 0)  # it was not done, and that does not count
    finally:
        service.run()
    link = next(link for name, link in job.wait()["files"].items() if name.endswith(".nc"))
    found = netcdf.decode(service.ann.fetch("GET", link)[1], "answer")
    expected = LocalClient(str(models / "small")).reconstruct(cloudy, steps=20)
    assert np.abs(found.optical.values.astype(int) - expected.series.optical.values).max() <= 1


OF_JOBS = {"steps": 20, "seed": 9}
"""How the series of the jobs under load is filled."""


@pytest.fixture(scope="module")
def of_job() -> TileSeries:
    """The series of the jobs under load."""
    return simulated(7, 40, 40, 60)


@pytest.fixture(scope="module")
def expected(models, of_job) -> np.ndarray:
    """The result of each of these jobs, as this process computes it."""
    return LocalClient(str(models / "small")).reconstruct(of_job, **OF_JOBS).series.optical.values


class Load:
    """Clients that ask again as soon as they have an answer, and a job after the other, each with the same seed."""

    def __init__(self, service, of_job: TileSeries, clients: int = 4) -> None:
        self.service, self.of_job = service, of_job
        self.answers: Counter[int | str] = Counter()
        self.wrong: list[str] = []
        self.results: list[np.ndarray] = []
        """Reflectance of each job, in steps of 1e-4."""
        self._content = netcdf.encode(simulated(1, 16, 16, 40))
        self._over = threading.Event()
        work = [self._ask] * clients + [self._submit]
        self._threads = [threading.Thread(target=one, daemon=True) for one in work]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.wait_for(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=120)
            assert not thread.is_alive(), "a request without an answer"

    def wait_for(self, count: int) -> None:
        """Until so many more are answered as they should be."""
        before, deadline = self.answers[200], time.monotonic() + 120
        while self.answers[200] < before + count:
            assert time.monotonic() < deadline, self.answers
            time.sleep(0.1)

    def _ask(self) -> None:
        url = f"{self.service.address}/v1/reconstructions?seed=3"
        headers = {"Authorization": f"Bearer {ANN}", "Content-Type": "application/x-netcdf"}
        while not self._over.is_set():
            try:
                with urllib.request.urlopen(urllib.request.Request(url, self._content, headers), timeout=100) as answer:
                    netcdf.decode(answer.read(), "answer")
                    self.answers[answer.status] += 1
            except urllib.error.HTTPError as error:
                self.answers[error.code] += 1
                told = error.read()
                if error.code not in (429, 503) or not error.headers["Retry-After"] or "error" not in json.loads(told):
                    self.wrong.append(f"{error.code}: {told[:200]!r}")
                time.sleep(0.5)
            except Exception as error:  # noqa: BLE001 an answer that breaks off, or is none
                self.answers[type(error).__name__] += 1
                self.wrong.append(repr(error))

    def _submit(self) -> None:
        while not self._over.is_set():
            try:
                state = self.service.ann.submit(self.of_job, **OF_JOBS).wait()
                link = next(link for name, link in state["files"].items() if name.endswith(".nc"))
                found = netcdf.decode(self.service.ann.fetch("GET", link)[1], "answer")
                self.results.append(found.optical.values.astype(int))
            except Exception as error:  # noqa: BLE001
                self.wrong.append(repr(error))


@pytest.mark.parametrize("name", ["Sampler", "Reconstructor", "JobManager", "Api"])
def test_requests_and_jobs_under_load_outlive_a_killed_process(service, of_job, expected, name):
    """SIGKILL: every request gets its answer, or is told when to ask again, and jobs end with the right result."""
    with Load(service, of_job) as load:
        (killed,) = replica_processes(name)
        os.kill(killed, signal.SIGKILL)
        deadline = time.monotonic() + 90
        while replica_processes(name) in ([], [killed]):
            assert time.monotonic() < deadline, "nobody takes its place"
            time.sleep(0.2)
        load.wait_for(10)
    print(name, dict(load.answers), len(load.results))
    assert load.wrong == []
    assert load.results
    for found in load.results:
        assert np.abs(found - expected).max() <= 1


def test_another_model_takes_over_without_a_failed_request(service, models, of_job):
    """To another model and bfloat16, and back. What is answered is what this process says in bfloat16."""
    with Load(service, of_job) as load:
        service.run("default_model=smaller", "precision=bf16")
        assert service.ask("GET", "/readyz")[1]["model"] == "smaller"
        load.wait_for(10)
        cloudy = simulated(3)
        found = service.ann.reconstruct(cloudy, seed=4)
        service.run("default_model=small", "precision=fp32")
        assert service.ask("GET", "/readyz")[1]["model"] == "small"
        load.wait_for(10)
    print(dict(load.answers), len(load.results))
    assert load.wrong == []
    assert set(load.answers) == {200}
    assert load.results
    expected = LocalClient(str(models / "smaller")).reconstruct(cloudy, seed=4, precision="bf16")
    difference = np.abs(found.series.optical.values.astype(int) - expected.series.optical.values)
    assert difference.max() <= 20  # 2e-3 of reflectance
    exact = LocalClient(str(models / "small")).reconstruct(cloudy, seed=4)
    assert (found.series.optical.values != exact.series.optical.values).any()  # bfloat16 it was

"""The endpoint on a real Ray Serve: what it answers, what it refuses, and what outlives its processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ray import serve

from restore_dit.client import Client, LocalClient
from restore_dit.config.loading import load_section
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.exchange import geotiff_archive, netcdf
from restore_dit.data.simulation import simulate_tile
from restore_dit.errors import UserError
from restore_dit.reconstruction.model_directory import save_model
from restore_dit.series import TileSeries
from serving.access import Tokens
from serving.app import NAME, build
from serving.config import ServingConfig
from tests.integration.test_ingest_job import ancestors, content

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280), pytest.mark.usefixtures("ray_cluster")]

ANN, BOB = "a" * 20, "b" * 20


class Service:
    """One that runs."""

    def __init__(self, config: ServingConfig, address: str) -> None:
        self.config, self.address = config, address
        self.ann, self.bob = Client(address, ANN), Client(address, BOB)

    def run(self) -> None:
        """Starts it, or starts it anew."""
        handle = serve.run(build(self.config, Tokens({"ann": ANN, "bob": BOB})), name=NAME, route_prefix="/")
        handle.readyz.remote().result(timeout_s=120)

    def ask(self, method: str, path: str, body: bytes | None = None, token: str = ANN, **headers: str):
        """(status, JSON, headers) of a plain request."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            self.address + path, body, {"Authorization": f"Bearer {token}", **headers}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"null"), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read()), error.headers


@pytest.fixture(scope="module")
def model(small_model, tmp_path_factory) -> str:
    place = str(tmp_path_factory.mktemp("registry") / "small")
    save_model(place, small_model.config, small_model.denoiser.state_dict(), small_model.normalisation, {"psnr": 20.0})
    return place


@pytest.fixture(scope="module")
def service(ray_cluster, model, tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    state = str(tmp_path_factory.mktemp("serving"))
    config = load_section(
        ServingConfig,
        [
            f"models={Path(model).parent}", f"state={state}", f"port={port}", "limits.steps=30",
            "limits.body_megabytes=3", "limits.dates=60", "samplers.cpus=0.3", "reconstructors.cpus=0.3",
            "ingresses.cpus=0.2",
        ],
    )  # fmt: skip
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    running = Service(config, f"http://127.0.0.1:{port}")
    running.run()
    yield running
    serve.shutdown()


def simulated(number: int, height: int = 22, width: int = 37, days: int = 60) -> TileSeries:
    return simulate_tile(SimulationConfig(height=height, width=width, days=days, field_hectares=0.8), 5, number)


@pytest.fixture(scope="module")
def series() -> TileSeries:
    return simulated(0)


def test_the_answer_is_that_of_this_process_whatever_it_was_batched_with(service, model):
    """Six series of several sizes at the same time, each with its own seed."""
    sizes = [(22, 37), (22, 37), (16, 16), (16, 16), (30, 20), (22, 37)]
    many = [simulated(number, *size) for number, size in enumerate(sizes)]
    local = LocalClient(model)
    with ThreadPoolExecutor(len(many)) as pool:
        answers = list(pool.map(lambda one: service.ann.reconstruct(many[one], seed=one, steps=2), range(len(many))))
    for seed, (cloudy, found) in enumerate(zip(many, answers, strict=True)):
        expected = local.reconstruct(cloudy, seed=seed, steps=2)
        np.testing.assert_array_equal(found.gap_mask, expected.gap_mask)
        difference = found.series.optical.values.astype(int) - expected.series.optical.values
        assert np.abs(difference).max() <= 1  # in steps of 1e-4 of reflectance: what rounding leaves of 1e-5
        assert (difference != 0).mean() < 1e-3
        assert found.series.georeference == cloudy.georeference


def test_geotiffs_and_single_dates(service, series):
    dates = [str(date) for date in series.optical.dates[[1, 3]]]
    path = f"/v1/reconstructions?format=geotiff&dates={','.join(dates)}"
    with service.ann.call("POST", path, netcdf.encode(series)) as answer:
        assert answer.headers["Content-Type"] == "application/zip"
        found = geotiff_archive.decode(answer.read(), "answer")
    whole = service.ann.reconstruct(series)
    assert [str(date) for date in found.optical.dates] == dates
    np.testing.assert_array_equal(found.optical.values, whole.series.optical.values[[1, 3]])
    np.testing.assert_array_equal(found.clouds == 1, whole.gap_mask[[1, 3]])


def test_a_job_tells_how_far_it_is_and_keeps_its_files_for_its_owner(service, series, tmp_path):
    job = service.ann.submit(series, format="json", seed=2, steps=3)
    seen: list[tuple[int, int]] = []
    state = job.wait(lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert state["done"] == state["total"] > 1
    files = {path.name: path for path in job.download(tmp_path)}
    described = json.loads(files["series.json"].read_text())
    assert described["dates"] == [str(date) for date in series.optical.dates]
    assert len(files) == 2 * len(series.optical) + 1
    with pytest.raises(UserError, match="no such reconstruction"):
        service.bob.get(f"/v1/reconstructions/{job.id}")
    with pytest.raises(UserError, match="Not Found"):
        service.ann.get(f"/v1/reconstructions/{job.id}/files/..%2Frequest.json")
    job.cancel()
    assert service.ask("GET", f"/v1/reconstructions/{job.id}")[0] == 404
    assert not list(Path(service.config.state).glob(job.id))


def test_a_job_that_is_cancelled_ends(service):
    job = service.ann.submit(simulated(3, 40, 40, 150), steps=30)
    job.cancel()
    assert job.state()["status"] == "cancelled"
    with pytest.raises(UserError, match="cancelled"):
        job.wait()


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "said"),
    [
        ("", b"", "application/x-netcdf", 400, "nothing was sent"),
        ("", b"hello", "application/x-netcdf", 422, "upload.nc: not a NetCDF 4 file"),
        ("", b"PK\x03\x04", "application/octet-stream", 422, "upload.zip: not a ZIP archive"),
        ("", b"hello", "text/plain", 415, "send application/x-netcdf"),
        ("", b"x" * 3_000_001, "application/x-netcdf", 413, "larger than 3 MB"),
        ("", b"{}", "application/json", 422, "give a JSON object with a uri"),
        ("", b'{"uri": "/etc/passwd"}', "application/json", 422, "must name an object in storage"),
        ("", b'{"uri": "s3://bucket/a.nc"}', "application/json", 422, "not in storage that this service may read"),
        ("?steps=31", b"x", "application/x-netcdf", 422, "steps: at most 30"),
        ("?steps=0", b"x", "application/x-netcdf", 422, "steps: Input should be greater"),
        ("?model=none", b"x", "application/x-netcdf", 422, "no model 'none'"),
        ("?model=../small", b"x", "application/x-netcdf", 422, "no model '../small'"),
        ("?format=exe", b"x", "application/x-netcdf", 422, "format: Input should be"),
        ("?sampler=euler", None, "application/x-netcdf", 422, "euler"),
        ("?dates=2001-01-01", None, "application/x-netcdf", 422, "dates: the series has no image of 2001-01-01"),
    ],
)
def test_what_is_refused_is_one_line(service, series, path, body, kind, status, said):
    content_ = netcdf.encode(series) if body is None else body
    found, answer, _ = service.ask("POST", f"/v1/reconstructions{path}", content_, Content_Type=kind)
    assert (found, list(answer)) == (status, ["error"])
    assert said in answer["error"]
    assert "\n" not in answer["error"]


def test_bands_that_the_model_lacks_and_too_many_dates_are_refused(service, series):
    few = series.optical
    bare = TileSeries("t", type(few)(few.values[:, :3], few.dates, few.bands[:3]), series.clouds)
    found, answer, _ = service.ask("POST", "/v1/reconstructions", netcdf.encode(bare), Content_Type="application/zip")
    assert found == 422  # a NetCDF file that says it is a ZIP archive
    found, answer, _ = service.ask(
        "POST", "/v1/reconstructions", netcdf.encode(bare), Content_Type="application/x-netcdf"
    )
    assert (found, "the model needs" in answer["error"]) == (422, True)
    long = simulated(1, 16, 16, 400)
    found, answer, _ = service.ask(
        "POST", "/v1/reconstructions", netcdf.encode(long), Content_Type="application/x-netcdf"
    )
    assert (found, "at most 60 are taken" in answer["error"]) == (413, True)


def test_nobody_gets_in_without_a_token_but_to_ask_whether_it_is_well(service):
    for path in ("/v1/models", "/v1/reconstructions/" + "x" * 22):
        found, _, headers = service.ask("GET", path, token="wrong")
        assert (found, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert service.ask("GET", "/healthz", token="wrong")[0] == 200
    assert service.ask("GET", "/readyz", token="wrong")[1]["model"] == "small"
    (only,) = service.ann.models()
    assert (only["name"], only["default"], only["metrics"]) == ("small", True, {"psnr": 20.0})


def test_requests_are_counted_by_route_and_status(service):
    service.ask("GET", "/v1/reconstructions/" + "y" * 22)
    with service.ann.call("GET", "/metrics") as answer:
        lines = answer.read().decode().splitlines()
    counted = 'restore_dit_requests_total{method="GET",route="/v1/reconstructions/{id}",status="404"}'
    assert [float(line.split()[-1]) >= 1 for line in lines if line.startswith(counted)] == [True]
    assert not [line for line in lines if "yyyy" in line]


def replica_process(name: str) -> int:
    """The process of a replica of this deployment, of this process's own cluster."""
    return next(
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if f"ServeReplica:{NAME}:{name}" in content(folder / "cmdline") and os.getpid() in ancestors(int(folder.name))
    )


@pytest.mark.faults
@pytest.mark.parametrize("name", ["Sampler", "Reconstructor", "Desk"])
def test_a_job_outlives_the_processes_that_do_it(service, model, name):
    """SIGKILL while it runs."""
    cloudy = simulated(7, 40, 40, 120)
    job = service.ann.submit(cloudy, steps=20, seed=9)
    deadline = time.monotonic() + 60
    while not job.state()["done"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert job.state()["status"] == "running"
    os.kill(replica_process(name), signal.SIGKILL)
    state = job.wait()
    link = next(link for name, link in state["files"].items() if name.endswith(".nc"))
    with service.ann.call("GET", link) as answer:
        found = netcdf.decode(answer.read(), "answer")
    expected = LocalClient(model).reconstruct(cloudy, steps=20, seed=9)
    assert np.abs(found.optical.values.astype(int) - expected.series.optical.values).max() <= 1


@pytest.mark.faults
def test_a_job_outlives_the_service(service):
    job = service.ann.submit(simulated(8, 40, 40, 120), steps=20)
    while not job.state()["done"]:
        time.sleep(0.05)
    serve.delete(NAME)
    service.run()
    assert job.wait()["files"]

"""The endpoint on a real Ray Serve: what it answers, and what it refuses."""

from __future__ import annotations

import io
import json
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import xarray
from rasterio.io import MemoryFile

import restore_dit
from restore_dit.cli import main
from restore_dit.client import Job, LocalClient
from restore_dit.data.exchange import geotiff_archive, netcdf
from restore_dit.data.store.tile_store import TileStoreWriter
from restore_dit.errors import UserError
from restore_dit.reconstruction.model_directory import load_model
from restore_dit.series import NO_DATA, Acquisitions, TileSeries
from tests.messages import assert_names
from tests.messages import refused as refuses
from tests.serving.running_service import BOB, running_service, save, simulated

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280), pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def model(small_model, tmp_path_factory) -> str:
    return str(save(small_model, tmp_path_factory.mktemp("registry") / "small"))


SHIPPED = "the_shipped"  # after `small`, which is first and therefore the default


@pytest.fixture(scope="module")
def service(ray_cluster, model, tmp_path_factory):
    save(load_model("default"), Path(model).parent / SHIPPED)
    limits = ("limits.steps=30", "limits.body_megabytes=3", "limits.dates=60")
    with running_service(Path(model).parent, tmp_path_factory.mktemp("serving"), *limits) as running:
        yield running


@pytest.fixture(scope="module")
def series() -> TileSeries:
    return simulated(0)


def test_the_answer_is_that_of_this_process_whatever_it_was_batched_with(service, model):
    """Six series of several sizes at the same time, each with its own seed."""
    sizes = [(22, 37), (22, 37), (16, 16), (16, 16), (30, 20), (22, 37)]
    many = [simulated(number, *size) for number, size in enumerate(sizes)]
    local = LocalClient(model)
    with ThreadPoolExecutor(len(many)) as pool:
        answers = list(
            pool.map(
                lambda one: service.ann.reconstruct(many[one], seed=one, steps=2, replace_suspect=one % 2 == 0),
                range(len(many)),
            )
        )
    for seed, (cloudy, found) in enumerate(zip(many, answers, strict=True)):
        expected = local.reconstruct(cloudy, seed=seed, steps=2, replace_suspect=seed % 2 == 0)
        np.testing.assert_array_equal(found.suspect, expected.suspect)
        np.testing.assert_array_equal(found.gap_mask, expected.gap_mask)
        np.testing.assert_array_equal(found.never_observed, expected.never_observed)
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


def test_what_is_observed_on_no_date_is_marked_and_nothing_at_all_refused(service, series):
    clouds = np.zeros_like(series.clouds)
    clouds[:, :, :9] = 1
    clouds[1:] = 1
    optical = series.optical
    values = np.where(optical.values == NO_DATA, np.int16(1), optical.values)
    half = replace(series, optical=Acquisitions(values, optical.dates, optical.bands), clouds=clouds)
    found = service.ann.reconstruct(half, mask_dilation=0, dates=[str(half.optical.dates[2])])
    assert (len(found.gap_mask), found.gap_mask.all()) == (1, True)
    assert (found.never_observed[:, :9].all(), found.never_observed[:, 9:].any()) == (True, False)
    job = service.ann.submit(half, format="json", mask_dilation=0)
    job.wait()
    described = json.loads(service.ann.fetch("GET", f"/v1/reconstructions/{job.id}/files/series.json")[1])
    assert described["never_observed"] == 9 * half.size[0]
    hidden = replace(half, clouds=np.ones_like(half.clouds))
    for ask in (service.ann.reconstruct, lambda one: service.ann.submit(one).wait()):
        with pytest.raises(UserError, match=hidden.tile_id):
            ask(hidden)


def test_every_door_gives_the_same_intervals(service, tmp_path):
    """The shipped model, calibrated on the series: `fill`, the job and the endpoint."""
    small, store = simulated(0, 12, 16, 120), tmp_path / "store"
    asked = f"model={SHIPPED}&outputs=reflectance,uncertainty"
    writer = TileStoreWriter(store, source="test")
    writer.add(small)
    writer.commit()
    content = netcdf.encode(small)
    (tmp_path / "endpoint.nc").write_bytes(service.ann.fetch("POST", f"/v1/reconstructions?{asked}", content)[1])
    assert main(["reconstruct", str(store), str(tmp_path / "job"), "format=netcdf"]) == 0
    with xarray.open_dataset(io.BytesIO(content), engine="h5netcdf") as dataset:
        filled = restore_dit.fill(dataset.load())
    gaps = filled["gap_mask"].values
    assert 0 < gaps.mean() < 1
    for path in (tmp_path / "endpoint.nc", tmp_path / "job" / f"{small.tile_id}.nc"):
        with xarray.open_dataset(path, engine="h5netcdf") as found:
            for level in (50, 80, 95):
                assert float(found.attrs[f"INTERVAL_{level}"]) == float(filled.attrs[f"interval_{level}"]) > 0
            for band in ("B02", "B08", "B12"):
                np.testing.assert_allclose(found[band], filled[band], atol=1.01e-4)
                said = filled["uncertainty"].sel(band=band)
                np.testing.assert_allclose(found[f"{band}_uncertainty"], said, atol=1.01e-4)
                assert (said.values[gaps] > 0).all()


def test_possible_series(service, model, series):
    found = service.ann.reconstruct(series, samples=2, seed=3).samples
    expected = LocalClient(model).reconstruct(series, samples=2, seed=3).samples
    assert found.shape == (2, *series.optical.values.shape)
    difference = found.astype(int) - expected
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 1e-3
    with refuses("samples", "16"):
        service.ann.reconstruct(series, samples=17)


def test_other_outputs(service, model, series):
    """An index and previews, with or without the bands they are made of."""
    expected = LocalClient(model).reconstruct(series)
    red, infrared = (
        expected.series.optical.values[:, expected.series.optical.bands.index(band)].astype(float)
        for band in ("B04", "B08")
    )
    index = (infrared - red) / (infrared + red)
    _, content = service.ann.fetch("POST", "/v1/reconstructions?outputs=ndvi", netcdf.encode(series))
    with xarray.open_dataset(io.BytesIO(content), engine="h5netcdf") as found:
        assert sorted(found.data_vars) == ["NDVI", "gap_mask", "never_observed", "provenance", "spatial_ref", "suspect"]
        np.testing.assert_allclose(found["NDVI"], index, atol=5e-3)
        assert np.median(np.abs(found["NDVI"] - index)) <= 1e-4

    path = "/v1/reconstructions?outputs=reflectance,ndvi,previews&format=geotiff"
    _, content = service.ann.fetch("POST", path, netcdf.encode(series))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        first = f"{series.tile_id}_{series.optical.dates[0]}"
        of_first = [name for name in archive.namelist() if name.startswith(first)]
        assert sorted(of_first) == [f"{first}.png", f"{first}.tif", f"{first}_gap.tif", f"{first}_ndvi.tif"]
        picture = matplotlib.image.imread(io.BytesIO(archive.read(f"{first}.png")), format="png")
        assert picture.shape == (*series.size, 4)
        assert picture[..., :3].std() > 0.05
        with MemoryFile(archive.read(f"{first}_ndvi.tif")) as file, file.open() as raster:
            np.testing.assert_allclose(raster.read(1) * raster.scales[0], index[0], atol=5e-3)
            assert raster.descriptions == ("NDVI",)
    np.testing.assert_array_equal(  # and goes in again
        geotiff_archive.decode(content, "answer").optical.values.shape, series.optical.values.shape
    )

    job = service.ann.submit(series, outputs=("ndvi", "previews"))
    pictures = {f"{series.tile_id}_{date}.png" for date in series.optical.dates}
    assert set(job.wait()["files"]) == pictures | {"series.json", f"{series.tile_id}.nc"}


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
    with pytest.raises(UserError, match="no such file"):
        service.ann.get(f"/v1/reconstructions/{job.id}/files/request.json")
    job.cancel()
    assert service.ask("GET", f"/v1/reconstructions/{job.id}")[0] == 404
    assert not list(Path(service.config.state).glob(job.id))


def test_a_request_sent_again_with_its_key_is_the_same_job(service, series):
    """At the same time, later, and after the job has ended; with another body, option or token it is another request,
    and once the job is deleted the key is free again."""
    content = netcdf.encode(series)

    def ask(body: bytes = content, query: str = "seed=4", **given: str) -> tuple[int, dict]:
        headers = {"Content_Type": "application/x-netcdf", "Idempotency_Key": "one", **given}
        status, answer, _ = service.ask("POST", f"/v1/reconstructions?{query}", body, **headers)
        return status, answer

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda _: ask(), range(3)))
    assert [status for status, _ in together] == [202] * 3
    (id_,) = {answer["id"] for _, answer in together}
    for refused in (ask(netcdf.encode(simulated(1))), ask(query="seed=5")):
        assert refused[0] == 422
        assert_names(refused[1]["error"], "Idempotency-Key")
    assert ask(token=BOB)[1]["id"] != id_
    job = Job(service.ann, id_)
    done = job.wait()
    assert ask() == (202, done)
    assert len(list((Path(service.config.state) / id_).glob("input*"))) == 1
    job.cancel()
    assert ask(query="seed=5")[1]["status"] in ("queued", "running")
    Job(service.ann, id_).wait()
    assert ask(Idempotency_Key="")[0] == 422


def test_a_job_that_is_cancelled_ends(service):
    job = service.ann.submit(simulated(3, 40, 40, 150), steps=30)
    job.cancel()
    assert job.state()["status"] == "cancelled"
    with pytest.raises(UserError, match="cancelled"):
        job.wait()


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "facts"),
    [
        ("", b"", "application/x-netcdf", 400, ["NetCDF", "ZIP", "JSON"]),
        ("", b"hello", "application/x-netcdf", 422, ["upload.nc", "NetCDF 4"]),
        ("", b"PK\x03\x04", "application/octet-stream", 422, ["upload.zip", "ZIP"]),
        ("", b"hello", "text/plain", 415, ["application/x-netcdf"]),
        ("", b"x" * 3_000_001, "application/x-netcdf", 413, ["3 MB"]),
        ("", b"{}", "application/json", 422, ["JSON", "uri", "sample"]),
        ("", b'{"uri": "/etc/passwd"}', "application/json", 422, ["uri", "s3://"]),
        ("", b'{"uri": "s3://bucket/a.nc"}', "application/json", 422, ["uri"]),
        ("?steps=31", b"x", "application/x-netcdf", 422, ["steps", 30]),
        ("?steps=0", b"x", "application/x-netcdf", 422, ["steps"]),
        ("?model=none", b"x", "application/x-netcdf", 422, ["'none'"]),
        ("?model=../small", b"x", "application/x-netcdf", 422, ["'../small'"]),
        ("?format=exe", b"x", "application/x-netcdf", 422, ["format"]),
        ("?sampler=euler", None, "application/x-netcdf", 422, ["euler"]),
        ("?outputs=ndvi,maps", b"x", "application/x-netcdf", 422, ["outputs", "'maps'", "'ndvi'"]),
        ("?outputs=,", b"x", "application/x-netcdf", 422, ["outputs", 1]),
        ("?stepz=3", b"x", "application/x-netcdf", 422, ["stepz"]),
        ("?wait=perhaps", b"x", "application/x-netcdf", 422, ["wait"]),
        ("?outputs=uncertainty", b"x", "application/x-netcdf", 422, ["outputs", "reflectance, ndvi", "uncertainty"]),
        ("?dates=2001-01-01", None, "application/x-netcdf", 422, ["dates", "2001-01-01"]),
    ],
)
def test_what_is_refused_is_one_line(service, series, path, body, kind, status, facts):
    content_ = netcdf.encode(series) if body is None else body
    found, answer, _ = service.ask("POST", f"/v1/reconstructions{path}", content_, Content_Type=kind)
    assert (found, list(answer)) == (status, ["error"])
    assert_names(answer["error"], *facts)
    assert "\n" not in answer["error"]


def test_bands_that_the_model_lacks_and_too_many_dates_are_refused(service, series):
    few = series.optical
    bare = TileSeries("t", type(few)(few.values[:, :3], few.dates, few.bands[:3]), series.clouds)
    found, answer, _ = service.ask("POST", "/v1/reconstructions", netcdf.encode(bare), Content_Type="application/zip")
    assert found == 422  # a NetCDF file that says it is a ZIP archive
    found, answer, _ = service.ask(
        "POST", "/v1/reconstructions", netcdf.encode(bare), Content_Type="application/x-netcdf"
    )
    assert found == 422
    assert_names(answer["error"], "B05")
    long = simulated(1, 16, 16, 400)
    found, answer, _ = service.ask(
        "POST", "/v1/reconstructions", netcdf.encode(long), Content_Type="application/x-netcdf"
    )
    assert found == 413
    assert_names(answer["error"], 60)


def test_nobody_gets_in_without_a_token_but_to_ask_whether_it_is_well(service):
    for path in ("/v1/models", "/v1/reconstructions/" + "x" * 22):
        found, _, headers = service.ask("GET", path, token="wrong")
        assert (found, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert service.ask("GET", "/healthz", token="wrong")[0] == 200
    assert service.ask("GET", "/readyz", token="wrong")[1]["model"] == "small"
    models = [(model["name"], model["default"], model["metrics"]) for model in service.ann.models()]
    assert models == [("small", True, {"psnr": 20.0}), (SHIPPED, False, {"psnr": 20.0})]


def test_requests_are_counted_by_route_and_status(service):
    service.ask("GET", "/v1/reconstructions/" + "y" * 22)
    with service.ann.call("GET", "/metrics") as answer:
        lines = answer.read().decode().splitlines()
    counted = 'restore_dit_requests_total{method="GET",route="/v1/reconstructions/{id}",status="404"}'
    assert [float(line.split()[-1]) >= 1 for line in lines if line.startswith(counted)] == [True]
    assert not [line for line in lines if "yyyy" in line]


def test_the_page_about_the_interface_fetches_nothing_from_elsewhere(service):
    _, page = service.ann.fetch("GET", "/docs")
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.decode())
    assert len(addresses) >= 2
    for address in addresses:
        assert address.startswith("/")
        assert service.ann.fetch("GET", address)[0] == 200

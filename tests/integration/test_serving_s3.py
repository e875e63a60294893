"""The endpoint with its records, and callers' series, in object storage that goes away and comes back."""

from __future__ import annotations

import json
import os
import signal
import time

import numpy as np
import pytest

from restore_dit.client import Job, LocalClient
from restore_dit.data.exchange import netcdf
from restore_dit.series import TileSeries
from tests.serving.running_service import replica_processes, running_service, save, simulated

pytestmark = [
    pytest.mark.ray,
    pytest.mark.s3,
    pytest.mark.faults,
    pytest.mark.timeout(280),
    pytest.mark.usefixtures("ray_cluster"),
]


def named(service, uri: str, **query: str) -> tuple[int, dict]:
    """Asks for a series in storage."""
    path = "/v1/reconstructions?" + "&".join(f"{name}={value}" for name, value in query.items())
    status, answer, _ = service.ask("POST", path, json.dumps({"uri": uri}).encode(), Content_Type="application/json")
    return status, answer


def result(service, state: dict) -> TileSeries:
    link = next(link for name, link in state["files"].items() if name.endswith(".nc"))
    return netcdf.decode(service.ann.fetch("GET", link)[1], "answer")


def test_storage_that_goes_away_is_waited_for(s3, bucket, small_model, tmp_path):
    """A series of the callers' storage. Storage stops while its job runs, once with the job manager killed as well:
    refusals of one line, and when storage is back the job goes on and its result is right."""
    model, series = save(small_model, tmp_path / "small"), simulated(5, 40, 40, 90)
    s3.client().put_object(Bucket=bucket, Key="in/series.nc", Body=netcdf.encode(series))
    expected = LocalClient(str(model)).reconstruct(series, steps=20, seed=2).series.optical.values
    with running_service(model, f"s3://{bucket}/state", f"storage=[s3://{bucket}/in]", "direct_pixels=0") as service:
        status, answer = named(service, f"s3://{bucket}/in/none.nc")
        assert (status, "none.nc: " in answer["error"]) == (422, True)
        for killed in (False, True):
            status, answer = named(service, f"s3://{bucket}/in/series.nc", steps="20", seed="2")
            assert status == 202, answer
            job = Job(service.ann, answer["id"])
            while not job.state()["done"]:
                time.sleep(0.05)
            s3.stop_gateway()
            try:
                if killed:
                    (job_manager,) = replica_processes("JobManager")
                    os.kill(job_manager, signal.SIGKILL)
                    status, answer, _ = service.ask("GET", f"/v1/reconstructions/{job.id}")
                    assert status == 503, answer
                status, answer = named(service, f"s3://{bucket}/in/series.nc")
                assert (status, answer["error"].count("\n")) == (503, 0)
                time.sleep(8)  # the job is done but for its result
            finally:
                s3.start_gateway()
            found = result(service, job.wait())
            assert np.abs(found.optical.values.astype(int) - expected).max() <= 1

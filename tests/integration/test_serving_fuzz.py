"""The endpoint against requests that its schema allows, requests that it does not, and damaged files: never a status of
5xx, never silence, nothing told of the machine, nothing left behind.

`RESTORE_DIT_DAMAGED=5000` sends so many damaged files.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import numpy as np
import psutil
import pytest

from restore_dit.data.exchange import geotiff_archive, netcdf
from restore_dit.reconstruction.rasters import geotiffs
from restore_dit.series import TileSeries
from tests.serving.damage import damaged
from tests.serving.running_service import ANN, replica_processes, running_service, save, simulated

pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.timeout(1500),
    pytest.mark.usefixtures("ray_cluster"),
]

DAMAGED = int(os.environ.get("RESTORE_DIT_DAMAGED", "600"))
EXAMPLES = int(os.environ.get("RESTORE_DIT_FUZZ_EXAMPLES", "25"))
"""Requests by schemathesis for each operation."""

SECRETS = ("/root", "/tmp", "/work", "/home", "site-packages", "Traceback", ".py", ANN, "127.0.0.1")


@pytest.fixture(scope="module")
def service(ray_cluster, small_model, tmp_path_factory):
    limits = (
        "limits.requests_a_minute=1000000", "limits.jobs_a_token=4", "limits.parse_seconds=20", "limits.steps=3",
        "limits.million_values=2", "limits.body_megabytes=2",
    )  # fmt: skip
    model = save(small_model, tmp_path_factory.mktemp("fuzz") / "small")
    with running_service(model, tmp_path_factory.mktemp("serving"), *limits) as running:
        yield running


def require_decent(status: int, content: bytes) -> None:
    """A refusal is one line that tells nothing of the machine."""
    assert status < 500 or status == 503, content
    if status < 400:
        return
    told = json.loads(content)
    assert list(told) == ["error"]
    assert told["error"]
    assert "\n" not in told["error"]
    assert not [secret for secret in SECRETS if secret in told["error"]], told


def test_the_schema_says_what_is_answered(service):
    """Every operation, with values that the schema allows and such as it does not."""
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

    schema = schemathesis.openapi.from_url(f"{service.address}/openapi.json")
    seen: Counter[int] = Counter()
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 10
    for operation in operations:
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @hypothesis.settings(
                max_examples=EXAMPLES,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[hypothesis.Phase.generate],
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            def ask(case):
                answer = case.call(base_url=service.address, headers={"Authorization": f"Bearer {ANN}"}, timeout=60)
                seen[answer.status_code] += 1
                case.validate_response(
                    answer, checks=[not_a_server_error, content_type_conformance, response_schema_conformance]
                )
                if answer.headers.get("content-type", [""])[0].startswith("application/json"):
                    require_decent(answer.status_code, answer.content)

            with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # nothing that its schema does not allow
                ask()
    print(dict(seen))
    assert {200, 404, 422} <= set(seen)


def test_damaged_files_are_refused_in_one_line_or_read(service):
    """What is sent is cut off, has holes, flipped bits, a wrong kind. Beside it, a whole series is answered as ever; at
    the end nothing is left: no processes, no open files, no memory."""
    series = simulated(0, 16, 16, 30)
    few = TileSeries("t", series.optical, series.clouds, georeference=series.georeference)
    sources = [
        (netcdf.encode(series), "application/x-netcdf"),
        (geotiff_archive.encode(dict(geotiffs(few, few.missing()))), "application/zip"),
        (b'{"uri": "s3://bucket/series.nc", "tile": "t"}', "application/json"),
    ]
    expected = service.ann.reconstruct(series, seed=1)
    replicas = [psutil.Process(process) for name in ("Api", "Reconstructor") for process in replica_processes(name)]

    def send(number: int) -> int:
        dice = random.Random(number)
        content, kind = sources[number % 7 % 3]
        content = damaged(content, dice)
        if dice.random() < 0.1:
            kind = dice.choice(sources)[1]
        connection = http.client.HTTPConnection("127.0.0.1", service.config.port, timeout=90)
        headers = {"Authorization": f"Bearer {ANN}", "Content-Type": kind}
        connection.request("POST", "/v1/reconstructions?seed=1", content, headers)
        answer = connection.getresponse()
        told = answer.read()
        connection.close()
        require_decent(answer.status, told)
        return answer.status

    def used() -> tuple[int, int, int]:
        """Processes, open files, megabytes, once the last readers have been collected."""
        time.sleep(2)
        processes = sum(len(replica.children(recursive=True)) for replica in replicas)
        files = sum(replica.num_fds() for replica in replicas)
        return processes, files, round(sum(replica.memory_full_info().uss for replica in replicas) / 1e6)

    with ThreadPoolExecutor(4) as pool:
        seen = Counter(pool.map(send, range(-100, 0)))
        before = used()
        seen += Counter(pool.map(send, range(DAMAGED)))
    after = used()
    print(dict(seen), before, after)
    assert set(seen) <= {200, 400, 413, 415, 422}
    assert seen[422] > DAMAGED / 2
    found = service.ann.reconstruct(series, seed=1)
    np.testing.assert_array_equal(found.series.optical.values, expected.series.optical.values)
    assert [replica.is_running() for replica in replicas] == [True] * len(replicas)
    assert after[0] <= before[0]
    assert after[1] <= before[1] + 10
    assert after[2] <= before[2] + 60

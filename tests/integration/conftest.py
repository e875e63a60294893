"""One Ray cluster for all integration tests."""

import logging
import os

import pytest
import ray


@pytest.fixture(scope="session")
def s3_environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """What Ray's processes need to know of the S3 server: they begin before any test that uses it."""
    try:
        return request.getfixturevalue("ceph_server").environment()
    except pytest.skip.Exception:
        return {}


@pytest.fixture(scope="session")
def ray_cluster(s3_environment: dict[str, str]):
    """Two CPUs, whatever the machine has."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    # Worker groups that start on a busy machine are slow, not broken.
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "180"
    environment = {"OMP_NUM_THREADS": "1", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "180"} | s3_environment
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.WARNING,
        object_store_memory=512 * 2**20,
        runtime_env={"env_vars": environment},
    )
    yield
    ray.shutdown()

"""Room on a cluster: had at once, waited for with a limit, or refused; and a cluster that grows when asked."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import ray
from ray.util import placement_group, remove_placement_group

from restore_dit.data import cluster_job
from restore_dit.data.cluster_job import await_room
from tests.messages import assert_names, refused

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


@pytest.mark.usefixtures("ray_cluster")
def test_room_that_is_there_is_had_at_once_and_what_cannot_be_is_refused_at_once():
    begin = time.monotonic()
    assert await_room([{"CPU": 1.0}, {"CPU": 1.0}])
    with refused("3 CPUs", "2 CPUs", "autoscaler", "ask for less"):
        await_room([{"CPU": 1.0}] * 3, advice="ask for less")
    assert time.monotonic() - begin < 5
    assert cluster_job.description() == "1 node, 2 CPUs, 0 GPUs"
    assert cluster_job.cpus() == 2


def test_a_bundle_must_fit_on_one_node():
    nodes = [{"CPU": 2.0, "memory": 5.0 * 2**30}] * 3
    assert cluster_job.lacks([{"CPU": 2.0}] * 3, nodes) == ""
    assert_names(cluster_job.lacks([{"CPU": 1.0}] * 7, nodes), "7 CPUs", "6 CPUs")
    wanted = {"CPU": 1.0, "memory": 8.0 * 2**30}
    assert_names(cluster_job.lacks([wanted], nodes), "1 CPU", "8 GiB", "one node")
    too_much = {"memory": 4000.0 * 2**30}
    assert_names(cluster_job.lacks([too_much], nodes), "4000 GiB", "15 GiB")
    assert_names(cluster_job.lacks([{"CPU": 3.0}], nodes), "3 CPUs", "one node")
    assert_names(cluster_job.lacks([{"GPU": 1.0}], nodes), "1 GPU", "0 GPUs")


@pytest.mark.usefixtures("ray_cluster")
def test_cpus_that_others_use_are_waited_for_with_a_limit_or_until_stopped():
    others = placement_group([{"CPU": 2.0}])
    assert others.wait(10)
    try:
        lines: list[str] = []
        with refused("0.1 minutes", "1 CPU"):
            await_room([{"CPU": 1.0}], lines.append, minutes=0.1)
        assert len(lines) == 1
        assert_names(lines[0], "1 minutes", "1 CPU")
        assert not await_room([{"CPU": 1.0}], stop=lambda: True)
    finally:
        remove_placement_group(others)
    assert await_room([{"CPU": 2.0}])


WAITING = """
    import ray
    from restore_dit.data import cluster_job
    ray.init(log_to_driver=False)
    before = ray.cluster_resources().get("CPU", 0)
    print("grows", cluster_job.has_autoscaler(), before, cluster_job.description(), flush=True)
    cluster_job.await_room([{"CPU": 1.0}] * 2, strategy="SPREAD", minutes=2)
    print("has", ray.cluster_resources()["CPU"], len(ray.nodes()), flush=True)
"""


@pytest.mark.cluster
@pytest.mark.parametrize("generation", [1, 2])
def test_a_cluster_without_a_cpu_that_grows_is_waited_for(tmp_path: Path, generation: int):
    """A real head of no CPU with Ray's autoscaler, whose nodes are further processes of this machine."""
    head_id = "f" * 51 + "00000"
    provider = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
    config: dict[str, object] = {
        "cluster_name": "grows",
        "max_workers": 2,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 1,
        "provider": {"type": "external", "module": provider, "use_node_id_as_ip": True, "head_node_id": head_id}
        | {"gcs_address": f"{ray.util.get_node_ip_address()}:7391"}
        | {"disable_node_updaters": True, "disable_launch_config_check": True, "launch_multiple": True},
        "available_node_types": {
            "cpu": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        },
        "head_node_type": "ray.head.default",
        "file_mounts_sync_continuously": False,
    }
    config |= {name: {} for name in ("auth", "file_mounts")}
    config |= {name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")}
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    config |= {f"{name}_commands": [] for name in commands}
    (tmp_path / "cluster.json").write_text(json.dumps(config))
    environment = os.environ | {
        "RAY_AUTH_MODE": "disabled",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    if generation == 2:
        environment |= {
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": head_id,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": head_id,
        }
    folder = tempfile.mkdtemp(dir="/tmp")  # the names of sockets must be short
    ray_command = Path(sys.executable).with_name("ray")
    words = ["start", "--head", "--port=7391", "--num-cpus=0", "--dashboard-agent-listen-port=7392", "--block"]
    words += ["--include-dashboard=false", f"--temp-dir={folder}"]
    words += [f"--autoscaling-config={tmp_path / 'cluster.json'}"]
    log = (tmp_path / "head.log").open("wb")
    head = subprocess.Popen([ray_command, *words], env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while "Ray runtime started" not in (tmp_path / "head.log").read_text() and time.monotonic() < deadline:
            time.sleep(0.5)
        time.sleep(3)  # until the autoscaler has looked around
        assert head.poll() is None, (tmp_path / "head.log").read_text()[-2000:]
        job = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(WAITING)],
            env=environment | {"RAY_ADDRESS": "127.0.0.1:7391"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        for process in (*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        head.wait(timeout=30)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)
    said = job.stdout.splitlines()
    assert said[0].startswith("grows True 0 1 node, 0 CPUs, 0 GPUs"), job.stdout + job.stderr
    assert said[-1] == "has 2.0 3"

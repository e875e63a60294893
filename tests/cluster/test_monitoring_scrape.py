"""A real Prometheus with our configuration, on a real cluster with a real training: every number that the dashboard and
the alerts ask for is there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cluster.local import dashboard
from cluster.local.lifecycle import ClusterPlan, client_environment, running
from cluster.local.node import free_ports
from cluster.local.record import ClusterRecord
from cluster.monitoring.prometheus import command, nodes_file
from restore_dit.config import RunConfig, WorkersConfig, dump
from tests.cluster.expressions import alert_expressions, dashboard_expressions, metrics_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(200)]

ROOT = Path(__file__).resolve().parents[2]
CLIENT = {"OMP_NUM_THREADS": "1", "RAY_metrics_report_interval_ms": "5000"}
"""What drivers have in their environment beside the cluster's address."""
GPU_OF_RAY = {"ray_node_gpus_utilization", "ray_node_gram_used"}
"""Absent without a GPU: asked of Ray's source instead."""

# A job over tiles, and a training that reports the memory of GPUs, which this machine need not have.
OTHER_JOBS = """
import time
from rich.console import Console
from cluster.connection import connect
from jobs.metrics import TrainingMetrics
from jobs.items import JobProgress
from restore_dit.trainer.monitor import GpuMemory, StepReport

connect()
gpu = TrainingMetrics("with-gpu")
memory = (GpuMemory(used=1 << 30, peak=2 << 30, total=8 << 30), GpuMemory(used=1, peak=2, total=3))
gpu.show(StepReport(1, 2, 0, 0.5, 1e-3, 10.0, 1.0, 0.1, 1.0, memory))
with JobProgress("ingest-pastis", "patches", 1000, Console(quiet=True)) as progress:
    progress.fail(2)
    while True:
        progress.advance()
        time.sleep(0.5)
"""


# What the autoscaler does with a node that has been idle.
DRAIN = """
import ray
from cluster.connection import connect

connect()
(idle,) = [node for node in ray.nodes() if node["Alive"] and "node:__internal_head__" not in node["Resources"]]
client = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
accepted, reason = client.drain_node(idle["NodeID"], 1, "idle for 600 seconds", 0)
assert accepted, reason
"""


class Prometheus:
    """Its HTTP interface."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}/api/v1"

    def query(self, expression: str) -> list[dict]:
        return self.get(f"query?{urllib.parse.urlencode({'query': expression})}")["result"]

    def labels(self, metric: str) -> set[str]:
        """Those of all its series."""
        return {label for series in self.query(metric) for label in series["metric"]}

    def alerts(self) -> dict[str, str]:
        """The state of each."""
        return {rule["name"]: rule["state"] for group in self.get("rules")["groups"] for rule in group["rules"]}

    def get(self, path: str) -> dict:
        with urllib.request.urlopen(f"{self._base}/{path}", timeout=10) as answer:
            return json.load(answer)["data"]


@pytest.fixture
def prometheus(cluster, tmp_path: Path) -> Iterator[Prometheus]:
    (port,) = free_ports(1)
    start = command(tmp_path / "prometheus", nodes_file("watched"), port)
    file = tmp_path / "prometheus" / "prometheus.yaml"
    file.write_text(file.read_text().replace("interval: 10s", "interval: 2s"))
    with ended(subprocess.Popen(start)):
        yield Prometheus(port)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterRecord]:
    """A head with two CPUs, and two nodes that have nothing to do."""
    if shutil.which("prometheus") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("prometheus is not installed: apt install prometheus")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    dashboard_metrics, autoscaler_metrics = free_ports(2)
    environment = CLIENT | {
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "3",
        # Else those of another cluster on this machine are in the way.
        "DASHBOARD_METRIC_PORT": str(dashboard_metrics),
        "AUTOSCALER_METRIC_PORT": str(autoscaler_metrics),
    }
    plan = ClusterPlan(
        nodes=3, cpus_per_node=1, head_cpus=2, object_store=100 << 20, name="watched", environment=environment
    )
    with running(plan) as record:
        yield record


@contextmanager
def ended(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def test_a_scrape_has_all_that_dashboard_and_alerts_ask_for(
    cluster: ClusterRecord, prometheus: Prometheus, small_run: RunConfig, tmp_path: Path
):
    config = small_run.model_copy(
        update={
            "name": "watched",
            "output": str(tmp_path / "runs"),
            "workers": WorkersConfig(count=1, cpus_each=0.5, data_cpus=0.5),
            "training": small_run.training.model_copy(update={"epochs": 100_000, "zero_stage": 1}),
        }
    )
    environment = os.environ | CLIENT | client_environment(cluster)
    file = tmp_path / "run.yaml"
    file.write_text(dump(config))
    others = subprocess.Popen([sys.executable, "-c", OTHER_JOBS], cwd=ROOT, env=environment)
    with ExitStack() as stack:
        stack.enter_context(ended(others))
        runs = 'ray_restore_dit_job_running{job_name="ingest-pastis"} == 1'
        assert not wait_for(lambda: [] if prometheus.query(runs) else [runs], others)
        assert prometheus.alerts()["NodeLost"] == "inactive"
        os.kill(cluster.nodes[1].pid, signal.SIGKILL)
        assert not wait_for(lambda: [node for node in dashboard.nodes(cluster) if node.alive][2:], others, 40)
        subprocess.run([sys.executable, "-c", DRAIN], cwd=ROOT, env=environment, check=True, timeout=40)
        training = subprocess.Popen(
            [sys.executable, "-m", "jobs.train", "--config", str(file)], cwd=ROOT, env=environment
        )
        stack.enter_context(ended(training))

        panels = [e for e in dashboard_expressions() if not GPU_OF_RAY & set(metrics_of(e))]
        silent = wait_for(lambda: [e for e in panels if not prometheus.query(e)], training)
        assert not silent, "no answer to " + "\n".join(silent)

        for expression in (*dashboard_expressions(), *alert_expressions()):
            prometheus.query(expression)  # answers an error to what it does not understand
            for metric, labels in metrics_of(expression).items():
                if metric not in GPU_OF_RAY:
                    assert labels <= prometheus.labels(metric), f"{metric} in {expression}"
        (step,) = prometheus.query('max(ray_restore_dit_training_step{run="watched"})')
        assert float(step["value"][1]) > 0
        assert prometheus.alerts()["TilesFailing"] == "firing"
        assert prometheus.query("ray_node_failure_total == 2")
        assert prometheus.alerts()["NodeLost"] == "firing"
        (lost,) = prometheus.query('ray_restore_dit_job_nodes_lost{job_name="ingest-pastis"}')
        assert lost["value"][1] == "1"  # and not the drained one
        (lost,) = prometheus.query('ray_restore_dit_job_nodes_lost{run="watched"}')
        assert lost["value"][1] == "0"  # it began later
        states = prometheus.alerts()
        assert {states[name] for name in ("WorkersReplaced", "TrainingStalled", "JobLost")} == {"inactive"}
        (running,) = prometheus.query('ray_restore_dit_job_running{run="watched"}')
        assert running["metric"]["submission"].startswith(f"process-{training.pid}-")

        training.send_signal(signal.SIGINT)
        assert training.wait(60) == 130
        others.kill()
        said = 'min_over_time(ray_restore_dit_job_running{run="watched"}[5m]) == 0'
        assert not wait_for(lambda: [] if prometheus.query(said) else [said], None, 20)
        gone = 'ray_restore_dit_job_running{job_name="ingest-pastis"}'  # killed, it never said 0
        assert not wait_for(lambda: prometheus.query(gone), None, 30)
        assert not prometheus.query('min_over_time(ray_restore_dit_job_running{job_name="ingest-pastis"}[5m]) == 0')


def test_ray_knows_the_gpu_metrics_that_the_dashboard_asks_for():
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    for expression in dashboard_expressions():
        for metric, labels in metrics_of(expression).items():
            if metric in GPU_OF_RAY:
                gauge = METRICS_GAUGES[metric.removeprefix("ray_")]
                assert labels - {"instance"} <= {str(key) for key in gauge.view.columns}


def wait_for(missing, process: subprocess.Popen | None, seconds: float = 75) -> list:
    """What is still missing when nothing is, or the time is over."""
    until = time.monotonic() + seconds
    while True:
        try:
            left = missing()
        except OSError as error:  # Prometheus starts
            left = [str(error)]
        if not left or time.monotonic() > until:
            return left
        assert process is None or process.poll() is None, "the training ended"
        time.sleep(1)

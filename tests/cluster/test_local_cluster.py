"""Clusters of several raylets on this machine, for real."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cluster.local import dashboard
from cluster.local.lifecycle import ClusterPlan, client_environment, down, running, up
from cluster.local.node import MARK, Runner, require_startable
from cluster.local.record import ClusterRecord, NodeRecord, beginning, read_record, record_file
from restore_dit.errors import UserError

SMALL = ClusterPlan(nodes=2, cpus_per_node=1, object_store=80 << 20, name="test")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters of the test's own, beside those of whoever runs it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def cluster() -> Iterator[ClusterRecord]:
    with running(SMALL) as record:
        yield record


def processes_of(folder: Path) -> list[psutil.Process]:
    """Those that carry the cluster's mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def listeners(processes: list[psutil.Process]) -> set[str]:
    """The addresses on which they listen."""
    pids = {process.pid for process in processes}
    connections = psutil.net_connections("tcp")
    return {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN and c.pid in pids}


def test_no_cluster_is_no_news() -> None:
    assert read_record("test") is None
    assert down("test") is False


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (replace(SMALL, nodes=0), "--nodes 0"),
        (replace(SMALL, cpus_per_node=-1), "--cpus-per-node -1"),
        (replace(SMALL, name="../other"), "--name ../other"),
        (replace(SMALL, object_store=1 << 20), "80 MiB"),
        (replace(SMALL, runner=Runner("/nowhere/python")), "--python /nowhere/python"),
        (replace(SMALL, runner=Runner(sys.executable, "no-such-user")), "no-such-user|root"),
    ],
)
def test_numbers_that_make_no_cluster_are_refused(plan: ClusterPlan, said: str) -> None:
    with pytest.raises(UserError, match=said):
        up(plan)
    assert read_record("test") is None


@pytest.mark.slow
def test_nodes_that_end_at_their_start_say_why_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UserError, match="'ray'"):
        up(replace(SMALL, runner=Runner(_python_without_ray(tmp_path))))
    assert read_record("test") is None
    assert not list(tmp_path.glob("rdc-*"))


def _python_without_ray(tmp_path: Path) -> str:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True, timeout=60)
    return str(tmp_path / "bare" / "bin" / "python")


@pytest.mark.cluster
def test_a_cluster_keeps_to_loopback_asks_for_its_token_and_ends_whole(cluster: ClusterRecord) -> None:
    nodes = dashboard.nodes(cluster)
    assert [node.is_head for node in nodes].count(True) == 1
    assert [node.cpus for node in nodes] == [1.0, 1.0]
    assert len({node.agent_port for node in nodes}) == 2, "job submission needs distinct agents"
    assert cluster.token_file.stat().st_mode & 0o077 == 0

    ours = processes_of(cluster.folder)
    assert len(ours) > 6
    assert listeners(ours) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    token = cluster.token_file.read_text()
    assert not any(token in " ".join(process.cmdline()) for process in ours)

    for headers, status in (({}, 401), ({"Authorization": "Bearer " + "0" * 64}, 403)):
        request = urllib.request.Request(cluster.dashboard + "/api/jobs/", headers=headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert refused.value.code == status

    with pytest.raises(UserError, match=re.escape(cluster.dashboard)):
        up(SMALL)
    assert len(dashboard.nodes(cluster)) == 2, "a refused `up` must not touch the cluster that runs"

    assert down("test") is True
    assert processes_of(cluster.folder) == []
    assert not cluster.folder.exists()
    assert read_record("test") is None


@pytest.mark.cluster
def test_down_ends_a_cluster_that_was_killed_in_part_and_nothing_else(cluster: ClusterRecord) -> None:
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER],
        env=os.environ | client_environment(cluster),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert driver.stdout is not None
        assert json.loads(driver.stdout.readline()) == 2, "one task on each node"
        os.kill(cluster.nodes[0].pid, signal.SIGKILL)  # the head's `ray start`, without a chance to clean up
        time.sleep(1)
        assert down("test") is True
        assert processes_of(cluster.folder) == []
        assert stranger.poll() is None
    finally:
        for process in (stranger, driver):
            process.kill()
            process.wait(timeout=10)


_DRIVER = """
import json, time, ray
ray.init(log_to_driver=False)

@ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
def node():
    time.sleep(2)
    return ray.get_runtime_context().get_node_id()

print(json.dumps(len(set(ray.get([node.remote(), node.remote()], timeout=60)))), flush=True)
time.sleep(60)
"""


@pytest.mark.cluster
def test_a_taken_dashboard_port_is_gone_around(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr("cluster.local.lifecycle.DASHBOARD_PORT", port)
        with running(replace(SMALL, nodes=1)) as record:
            assert record.dashboard != f"http://127.0.0.1:{port}"
            assert len(dashboard.nodes(record)) == 1


def test_a_process_is_known_by_its_beginning_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    node = NodeRecord(name="head", pid=os.getpid(), begun=beginning(os.getpid()))
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: 0.0)
    assert node.process() is not None
    other = subprocess.Popen(["sleep", "30"])
    try:
        assert NodeRecord(name="head", pid=other.pid, begun=node.begun).process() is None
        mine = NodeRecord(name="head", pid=other.pid, begun=beginning(other.pid))
        assert mine.process() is not None
    finally:
        other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet buried
    assert mine.process() is None, "a zombie does not run"
    other.wait(timeout=10)
    assert mine.process() is None


def test_two_that_start_one_cluster_are_one_too_many(tmp_path: Path) -> None:
    lock = record_file("test").with_suffix(".lock")
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="being started"):
            up(SMALL)


@pytest.mark.parametrize("name", ["with space", "a(b)", "feld#1", "$x"])
def test_an_interpreter_that_ray_cannot_start_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    python = tmp_path / name / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    with pytest.raises(UserError, match=f"{re.escape(name)}/bin/python"):
        up(ClusterPlan(nodes=1, runner=Runner(str(python))))
    require_startable(str(tmp_path / "Grünland-1" / "python"))


def test_records_that_cannot_be_kept_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    with pytest.raises(UserError, match="XDG_STATE_HOME"):
        up(ClusterPlan(nodes=1))

"""Jobs submitted to a real cluster with a token, followed, stopped and resumed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.local import dashboard
from cluster.local.lifecycle import ClusterPlan, client_environment, running
from cluster.local.record import ClusterRecord
from jobs.submission.client import ClusterClient
from jobs.submission.follow import Followed, follow
from jobs.submission.submission import pack, project_files, project_root
from jobs.submission.target import Target, find_target
from restore_dit.cli import main
from restore_dit.data import runner
from restore_dit.data.pastis.write import plan_pastis
from restore_dit.data.store.tile_store import TileStore
from tests.data.pastis.miniature import SMALL
from tests.jobs.submission.dropping_proxy import DroppingProxy
from tests.messages import assert_names

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

ENDLESS_TRAINING = """
preset: tiny
name: site
data:
  {crop: 16, frames: 6, split: {test_fraction: 0.34, validation_fraction: 0.2}, radar: {track: S1A, frames: 7}}
model: {hidden_size: 16, depth: 1}
training: {epochs: 100000, batch_size: 4, validate_every: 1000000, save_every: 1000000, log_every: 10}
"""

EMPTY_ZIP = pack({}, {})


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRecord]:
    """This user's local cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("OMP_NUM_THREADS", "1")
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            patch.delenv(name)
        with running(ClusterPlan(nodes=1, cpus_per_node=2, object_store=100 << 20)) as record:
            yield record


@pytest.fixture
def client(cluster: ClusterRecord) -> ClusterClient:
    return ClusterClient(find_target(None))


@pytest.fixture(scope="module")
def pastis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pastis")
    runner.run(plan_pastis(SMALL, str(folder / "source"), 3))
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit status, standard output and error of `restore-dit`."""
    status = main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def eventually(what: Callable[[], object], seconds: float = 60) -> None:
    """Waits until it is true."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it never was"
        time.sleep(0.2)


def test_ray_s_own_command_runs_a_job_from_a_checkout(cluster: ClusterRecord, tmp_path: Path) -> None:
    """As docs/jobs.md says it, with tiles made by Ray's workers."""
    ray, store = Path(sys.executable).with_name("ray"), tmp_path / "store"
    job = ["python", "-m", "jobs.simulate", f"file://{store}", "--tiles", "3", "height=16", "width=16", "days=60"]
    done = subprocess.run(
        [ray, "job", "submit", "--working-dir", ".", "--", *job, "--workers", "2"],
        cwd=project_root(),
        env=os.environ | client_environment(cluster),
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert_names(done.stdout, f"{store}: 3 tiles")
    assert len(TileStore.open(store)) == 3


def test_a_job_is_followed_to_its_success_and_leaves_no_secret(cluster, client, pastis, capsys, monkeypatch):
    """With a small file of this machine, which goes along."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "TOP-SECRET")
    bad_frames = pastis / "mine.json"
    bad_frames.write_text('{"10000": [0]}')
    store = pastis / "store"
    status, out, err = run(
        capsys, "submit", "ingest-pastis", f"source={(pastis / 'source').as_uri()}", f"output={store.as_uri()}",
        f"bad_frames={bad_frames}", "patch_size=16", "workers=0",
    )  # fmt: skip
    assert status == 0, out + err
    assert "3 tiles" in out
    assert len(TileStore.open(store).tile_ids) == 3
    [job_id] = re.findall(r"job (ingest-pastis-store-\d{8}-\d{6}-[0-9a-f]{4}) succeeded", err)

    known = str(dashboard.ask(cluster, f"/api/jobs/{job_id}")) + client.log(job_id) + out + err
    assert job_id in known
    assert "TOP-SECRET" not in known
    assert cluster.token_file.read_text() not in known

    status, out, _ = run(capsys, "job", "list", "--address", cluster.dashboard)
    assert status == 0
    assert re.search(rf"{job_id} +SUCCEEDED", out)


def test_a_failure_is_the_jobs_own_word_and_status(cluster, capsys):
    words = ("submit", "evaluate", "model=file:///nowhere", "store=file:///nowhere", "output=file:///nowhere/e")
    status, _, err = run(capsys, *words)
    assert status == 1
    last = err.splitlines()[-1]
    assert re.match(r"restore-dit submit evaluate: error: job evaluate-e-\S+ .*\b1: file:///nowhere: ", last)
    job_id = last.split()[5]
    assert run(capsys, "job", "status", job_id)[0] == 0
    status, out, _ = run(capsys, "job", "logs", job_id)
    assert (status, out.count("python -m jobs.evaluate: error: file:///nowhere: ")) == (0, 1)


def test_what_runs_is_what_was_sent(client):
    """Not what is installed on the nodes."""
    files = project_files(project_root())
    sent = {name: path for name, path in files.items() if name != "restore_dit/__init__.py"}
    package = pack(sent, {"restore_dit/__init__.py": b"__version__ = 'as sent'\n"})
    client.submit(
        "version", "python -c 'import restore_dit as r; print(r.__version__)'", package, {}, {}, cpus=0, gpus=0
    )
    eventually(lambda: client.job("version").status.is_terminal())
    assert client.log("version").endswith("as sent\n")


def test_who_has_no_token_or_a_wrong_one_is_refused(cluster, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # somebody else
    status, _, err = run(capsys, "job", "list", "--address", cluster.dashboard)
    assert (status, err.count("\n")) == (1, 1)
    assert_names(err, cluster.dashboard, "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    status, _, err = run(capsys, "job", "list", "--address", cluster.dashboard)
    assert (status, err.count("\n")) == (1, 1)
    assert_names(err, cluster.dashboard, "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def test_an_unknown_job_is_named(cluster, capsys):
    for command in ("status", "logs", "stop"):
        status, _, err = run(capsys, "job", command, "train-site-1")
        assert status == 1
        assert err.startswith(f"restore-dit job {command}: error: train-site-1: ")
        assert_names(err, cluster.dashboard, "restore-dit job list")


def test_a_log_is_followed_over_connections_that_drop(cluster, capsys):
    with DroppingProxy(cluster.dashboard) as proxy:
        client = ClusterClient(Target(proxy.url, cluster.token_file.read_text(), "the test"))
        counting = "for i in $(seq 24); do echo line $i; sleep 0.5; done"
        client.submit("counting", counting, EMPTY_ZIP, {}, {}, cpus=0, gpus=0)
        written: list[str] = []
        said: list[str] = []

        def disturb() -> None:
            eventually(lambda: "line 4" in "".join(written))
            proxy.cut()
            eventually(lambda: "line 10" in "".join(written))
            proxy.refusing = True
            proxy.cut()
            eventually(lambda: said)
            proxy.refusing = False

        with ThreadPoolExecutor(1) as other:
            disturbed = other.submit(disturb)
            ended = follow(client, "counting", Followed(written.append), said.append)
            disturbed.result(timeout=1)
    assert str(ended.status) == "SUCCEEDED"
    assert len(said) == 2  # that it is lost, and that it is back
    lines = "".join(written).splitlines()
    assert [line for line in lines if line.startswith("line")] == [f"line {count}" for count in range(1, 25)]


def test_a_training_outlives_its_user_is_stopped_and_goes_on(cluster, client, capsys, tmp_path, small_store):
    config = tmp_path / "site.yaml"
    config.write_text(ENDLESS_TRAINING)
    words = ["submit", "train", "--config", str(config), f"data.store=file://{Path(small_store.uri).absolute()}"]
    words.append(f"output={(tmp_path / 'runs').as_uri()}")
    user = subprocess.Popen(
        [sys.executable, "-m", "restore_dit.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert any("loss" in line for line in user.stdout)
        user.send_signal(signal.SIGINT)
        _, err = user.communicate(timeout=20)
    finally:
        user.kill()
    assert user.returncode == 130
    [job_id] = set(re.findall(r"train-site-\d[\w-]*", err))
    assert f"restore-dit job stop {job_id} --address {cluster.dashboard}" in err

    assert str(client.job(job_id).status) == "RUNNING"
    status, out, _ = run(capsys, "job", "stop", job_id)
    assert (status, out) == (0, f"{job_id}: STOPPED\n")
    [step] = re.findall(r"stopped \D*(\d+)", client.log(job_id))
    status, _, err = run(capsys, "job", "logs", job_id, "--follow")
    assert status == 130
    assert err.endswith(f"job {job_id} stopped\n")

    status, out, err = run(capsys, *words, "--detach")
    again = out.strip()
    assert (status, again.startswith("train-site-")) == (0, True)
    assert f"restore-dit job logs {again} --follow --address {cluster.dashboard}" in err
    eventually(lambda: re.search(rf"resuming \D*{step}\b", client.log(again)))
    assert run(capsys, "job", "stop", again)[0] == 0

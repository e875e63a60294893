"""Ingest, train, evaluate, reconstruct and a sweep as a user submits them: to a cluster of three nodes with a token,
over S3. The sweep loses one of them.

Nothing of the checkout is there: the nodes run as another user, who cannot read it, in an environment that has the
dependencies and not the project. What a job needs must have come with it or lie in the bucket.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import psutil
import pytest

from cluster.local import dashboard
from cluster.local.lifecycle import ClusterPlan, client_environment, running
from cluster.local.node import MARK, Runner
from cluster.local.record import ClusterRecord, NodeRecord
from tests.cluster.foreign import USER, dependencies_only
from tests.s3.ceph_server import CephServer

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.s3,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may start nodes as another user"),
]

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "end-to-end"
STEPS = 12

TRAINING = f"""
preset: tiny
name: small
data:
  {{crop: 16, frames: 6, split: {{test_fraction: 0.34, validation_fraction: 0.2}}, radar: {{track: S1A, frames: 7}}}}
model: {{hidden_size: 16, depth: 1}}
training: {{epochs: 6, batch_size: 4, validate_every: {STEPS // 2}, save_every: {STEPS // 2}, log_every: 1}}
workers: {{count: 2, cpus_each: 1, data_cpus: 0.5}}
"""

SWEEP = """
base: small.yaml
run:
  training: {epochs: 40, validate_every: 20, save_every: 20}
  workers: {count: 1, cpus_each: 0.5, data_cpus: 0.5}
space:
  diffusion.sampling_steps: {values: [1, 2]}
search: {algorithm: grid, trials: 2}
"""


@dataclass(frozen=True)
class Client:
    """Someone with a copy of the project that nobody else may read."""

    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str, limit: int = 280, **environment: str) -> subprocess.CompletedProcess[str]:
        """`restore-dit …` to its end, within `limit` seconds."""
        return subprocess.run(
            [sys.executable, "-m", "restore_dit.cli", *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
        )


@dataclass(frozen=True)
class Session:
    """A cluster, a client of it, and what the four jobs answered."""

    cluster: ClusterRecord
    client: Client
    answers: dict[str, subprocess.CompletedProcess[str]]
    scraped: dict[str, str]
    """What the nodes' metrics ports said while the job of this name ran."""
    s3: CephServer
    lost: list[NodeRecord]
    """The node that was killed while the sweep ran."""

    def keys(self, prefix: str) -> list[str]:
        """The objects below a prefix."""
        listed = self.s3.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for entry in listed.get("Contents", [])]

    def read(self, key: str) -> bytes:
        """An object."""
        return self.s3.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()


@pytest.fixture(scope="module")
def session(ceph_server: CephServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with pytest.MonkeyPatch.context() as patch:
        private = tmp_path_factory.mktemp("client")
        private.chmod(0o700)
        patch.setenv("XDG_STATE_HOME", str(private / "state"))
        foreign = Path("/tmp") / f"dependencies-{os.getpid()}"  # not below pytest's folder, which is private
        foreign.mkdir()
        try:
            environment = dependencies_only(foreign)
            plan = ClusterPlan(
                nodes=3,
                name="end-to-end",
                object_store=128 << 20,
                runner=Runner(str(environment.python), USER),
                environment=ceph_server.environment() | environment.variables,
            )
            with running(plan) as cluster:
                client = _client(private, cluster)
                with Scraper(cluster) as scraper:
                    answers = _submit_all(client, ceph_server, scraper)
                session = Session(cluster, client, answers, scraper.texts, ceph_server, [])
                if "reconstruct" in answers:
                    _sweep_that_loses_a_node(session)
                yield session
        finally:
            shutil.rmtree(foreign, ignore_errors=True)


def _client(private: Path, cluster: ClusterRecord) -> Client:
    """A copy of the checkout, with an environment that knows the cluster and no S3 credentials."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    folder = private / "checkout"
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and name.partition("/")[0] in PACKAGES:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "small.yaml").write_text(TRAINING)
    (folder / "sweep.yaml").write_text(SWEEP)
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))}
    return Client(folder, ours | client_environment(cluster) | {"OMP_NUM_THREADS": "1"})


PACKAGES = ("restore_dit", "jobs", "tuning", "serving", "cluster")


class Scraper:
    """Asks every node's metrics port again and again, as Prometheus would, for as long as it is open."""

    def __init__(self, cluster: ClusterRecord) -> None:
        self.texts: dict[str, str] = {}
        self.job = ""
        self._targets = cluster.folder / "head" / "prom_metrics_service_discovery.json"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._scrape, daemon=True)

    def __enter__(self) -> Scraper:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join(timeout=30)

    def _scrape(self) -> None:
        while not self._over.wait(2):
            targets = {target for group in json.loads(self._targets.read_text()) for target in group["targets"]}
            for target in targets:
                try:
                    with urllib.request.urlopen(f"http://{target}/metrics", timeout=5) as answer:
                        lines = answer.read().decode().splitlines()
                except OSError:
                    continue
                ours = [line for line in lines if line.startswith("ray_restore_dit_")]
                self.texts[self.job] = self.texts.get(self.job, "") + "\n".join(ours) + "\n"


def _submit_all(client: Client, server: CephServer, scraper: Scraper) -> dict[str, subprocess.CompletedProcess[str]]:
    """The jobs one after the other, as far as they succeed."""
    s3 = server.client()
    s3.create_bucket(Bucket=BUCKET)
    made = client.run("simulate", "source", "--layout", "pastis", "--tiles", "6", "height=32", "width=32")
    assert made.returncode == 0, made.stdout
    _upload(s3, client.folder / "source", "source")
    here = f"s3://{BUCKET}"
    jobs = {
        "ingest-pastis": [f"source={here}/source", f"output={here}/store", "patch_size=32"],
        "train": ["--config", "small.yaml", f"data.store={here}/store", f"output={here}/runs"],
        "evaluate": [
            f"model={here}/runs/small/model", f"store={here}/store", f"output={here}/evaluation", "workers=2",
            "tiles=2",
        ],
        "reconstruct": [
            f"model={here}/runs/small/model", f"input={here}/store", f"output={here}/clear", "workers=2",
            "tiles=[10000,10001]",
        ],
    }  # fmt: skip
    answers = {}
    for job, arguments in jobs.items():
        scraper.job = job
        answers[job] = client.run("submit", job, *arguments)
        if answers[job].returncode:
            break
    return answers


def _sweep_that_loses_a_node(session: Session) -> None:
    """Submits the sweep; once a trial has saved a state, every process of a node on which a trial's worker runs is
    killed, but not the head's, where the job itself is."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.2):
            if not [key for key in session.keys("sweeps/small/trials/") if key.endswith("latest.json")]:
                continue
            for node in session.cluster.nodes[1:]:
                process = node.process()
                below = process.children(recursive=True) if process else []
                if process and any("RayTrainWorker" in " ".join(_command(one)) for one in below):
                    for one in (process, *below):
                        one.kill()
                    session.lost.append(node)
                    return

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        here = f"s3://{BUCKET}"
        session.answers["tune"] = session.client.run(
            "submit", "tune", "--config", "sweep.yaml", f"run.data.store={here}/store", f"output={here}/sweeps",
            "name=small", limit=500,
        )  # fmt: skip
    finally:
        over.set()
        killer.join(timeout=30)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _upload(s3: boto3.client, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(folder)}")


@pytest.mark.parametrize("job", ["ingest-pastis", "train", "evaluate", "reconstruct", "tune"])
def test_a_submitted_job_ends_with_status_0(session: Session, job: str) -> None:
    assert job in session.answers, f"never submitted: {session.answers[list(session.answers)[-1]].stdout}"
    assert session.answers[job].returncode == 0, session.answers[job].stdout


def test_outputs_are_complete_and_in_the_bucket(session: Session) -> None:
    manifest = json.loads(session.read("store/manifest.json"))
    assert len(manifest["tiles"]) == 6
    assert json.loads(session.read("runs/small/run.json"))["status"] == "finished"
    assert "runs/small/model/model.safetensors" in session.keys("runs/small/model/")
    assert [key for key in session.keys("runs/small/logs/") if "tfevents" in key]
    lines = [json.loads(line) for line in session.read("runs/small/logs/metrics.jsonl").splitlines()]
    assert max(line["step"] for line in lines) >= STEPS
    report = json.loads(session.read("evaluation/report.json"))
    assert report
    for tile in ("10000", "10001"):
        assert [key for key in session.keys("clear/") if tile in key and key.endswith(".tif")]


def test_the_sweep_lost_a_node_and_no_trial(session: Session) -> None:
    assert len(session.lost) == 1
    names = [f"sweeps/small/trials/trial-{number:03d}" for number in range(2)]
    records = [json.loads(session.read(f"{name}.json")) for name in names]
    assert [(record["status"], record["error"]) for record in records] == [("finished", None)] * 2
    for name in names:
        lines = [json.loads(line) for line in session.read(f"{name}/logs/metrics.jsonl").splitlines()]
        assert max(line["step"] for line in lines) == json.loads(session.read(f"{name}.json"))["step"]
    written = {key.rpartition("/")[2] for key in session.keys("sweeps/small/") if key.count("/") == 2}
    assert written >= {"report.html", "trials.csv", "best.yaml", "pareto.png"}
    assert not session.keys("sweeps/small/ray/")


def test_what_every_trial_needs_is_on_the_node_of_the_sweep(session: Session) -> None:
    actors = dashboard.ask(session.cluster, "/api/v0/actors?detail=1&limit=1000")["data"]["result"]["result"]
    homes = {
        kind: {actor["node_id"] for actor in actors if kind in actor["class_name"]}
        for kind in ("_StopList", "JobSupervisor")
    }
    assert len(homes["_StopList"]) == 1
    assert homes["_StopList"] <= homes["JobSupervisor"]


def test_two_workers_trained_on_different_nodes(session: Session) -> None:
    ranks = {key.rpartition("-")[2] for key in session.keys("runs/small/logs/examples/")}
    assert ranks == {"0.jsonl", "1.jsonl"}
    actors = dashboard.ask(session.cluster, "/api/v0/actors?detail=1&limit=1000")["data"]["result"]["result"]
    workers = [actor for actor in actors if "RayTrainWorker" in actor["class_name"]]
    training = min(actor["job_id"] for actor in workers)  # the sweep came later
    assert len({actor["node_id"] for actor in workers if actor["job_id"] == training}) == 2


def test_a_scrape_shows_the_metrics_of_that_training(session: Session) -> None:
    lines = session.scraped["train"].splitlines()
    seen = {line.partition("{")[0].removeprefix("ray_restore_dit_") for line in lines if 'job_name="train"' in line}
    assert seen >= {
        "job_running", "training_step", "training_loss", "training_examples_per_second", "training_data_wait_share",
        "training_workers", "training_last_progress_timestamp_seconds",
    }  # fmt: skip
    assert any(line.startswith("ray_restore_dit_training_workers") and line.endswith(" 2.0") for line in lines)
    done = [line for line in session.scraped["ingest-pastis"].splitlines() if "tiles_done" in line]
    assert done
    assert max(float(line.rpartition(" ")[2]) for line in done) == 6


def test_nodes_run_as_somebody_who_has_nothing_of_the_project(session: Session) -> None:
    ours = [
        process for process in psutil.process_iter() if _environment(process).get(MARK) == str(session.cluster.folder)
    ]
    assert len(ours) > 10
    assert {process.username() for process in ours} == {USER}
    python = next(Path(word) for process in ours for word in process.cmdline()[:1] if "dependencies-" in word)
    look = f"import ray, pathlib\nprint(pathlib.Path({str(session.client.folder)!r}, 'small.yaml').read_text())"
    for script, complaint in ((look, "PermissionError"), ("import ray, restore_dit", "ModuleNotFoundError")):
        tried = subprocess.run(
            [python, "-c", script], user=USER, group=os.getegid(), cwd="/", capture_output=True, text=True, timeout=60,
            extra_groups=[], env={"PATH": os.defpath, "LD_LIBRARY_PATH": str(python.parents[2] / "python" / "lib")},
        )  # fmt: skip
        assert tried.returncode == 1
        assert complaint in tried.stderr


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def test_secrets_are_in_no_job_and_in_no_log(session: Session) -> None:
    secrets = (session.cluster.token_file.read_text(), session.s3.environment()["AWS_SECRET_ACCESS_KEY"])
    jobs = dashboard.ask(session.cluster, "/api/jobs/")
    said = [json.dumps(jobs), *(answer.stdout for answer in session.answers.values())]
    said += [json.dumps(dashboard.ask(session.cluster, f"/api/jobs/{job['submission_id']}/logs")) for job in jobs]
    assert len(jobs) >= 4
    for text in said:
        assert not any(secret in text for secret in secrets)


def test_a_failing_job_says_why_and_ends_with_status_1(session: Session) -> None:
    answer = session.client.run(
        "submit", "evaluate", f"model=s3://{BUCKET}/nothing", f"store=s3://{BUCKET}/store", f"output=s3://{BUCKET}/no"
    )
    assert answer.returncode == 1
    assert f"s3://{BUCKET}/nothing" in answer.stdout.splitlines()[-1]
    assert "Traceback" not in answer.stdout


def test_a_client_without_the_token_is_refused(session: Session, tmp_path: Path) -> None:
    arguments = ["submit", "evaluate", f"model=s3://{BUCKET}/m", f"store=s3://{BUCKET}/s", f"output=s3://{BUCKET}/o"]
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    before = len(dashboard.ask(session.cluster, "/api/jobs/"))
    for path in (str(tmp_path / "none"), str(wrong)):
        answer = session.client.run(
            *arguments, RAY_AUTH_TOKEN_PATH=path, XDG_STATE_HOME=str(tmp_path), HOME=str(tmp_path)
        )
        assert answer.returncode == 1
        assert "token" in answer.stdout
        assert "Traceback" not in answer.stdout
    assert len(dashboard.ask(session.cluster, "/api/jobs/")) == before

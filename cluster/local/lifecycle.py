"""Starts and stops local clusters."""

from __future__ import annotations

import fcntl
import os
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cluster.local import dashboard
from cluster.local.node import (
    LOOPBACK,
    LOOPBACK_ONLY,
    MARK,
    NodePlan,
    Runner,
    free_ports,
    ids,
    is_free,
    require_startable,
    start_node,
)
from cluster.local.record import ClusterRecord, read_record, record_file, write_record
from restore_dit.errors import UserError

DASHBOARD_PORT = 8265
"""Ray's default port; if it is taken, a free one is used."""

SECONDS_TO_END = 10
"""How long processes may take to end before they are killed."""

MAX_OBJECT_STORE = 1 << 30
SHARE_OF_MEMORY = 0.6
"""Share of the machine's memory that tasks on all nodes together may reserve."""


@dataclass(frozen=True)
class ClusterPlan:
    """Configuration of a local cluster."""

    nodes: int = 3
    """Including the head."""
    cpus_per_node: int = 1
    head_cpus: int | None = None
    """None: the same as on the other nodes."""
    gpus_per_node: int = 0
    object_store: int | None = None
    """Bytes of each node's object store; None: a tenth of the memory divided by the nodes, at most 1 GiB each."""
    name: str = "default"
    seconds: float = 120.0
    """Time limit for all nodes to be alive."""
    runner: Runner = field(default_factory=lambda: Runner(sys.executable))
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables for the nodes and everything that runs on them, in addition to the caller's."""


def up(plan: ClusterPlan, say: Callable[[str], None] = lambda line: None) -> ClusterRecord:
    """Starts a cluster and waits until every node is alive. If that fails, stops what was started.

    Raises:
        UserError: invalid numbers, a running cluster with this name, or a node that did not come up.
    """
    _check(plan)
    with _exclusive(plan.name):
        existing = read_record(plan.name)
        if existing is not None:
            if existing.alive:
                raise UserError(
                    f"a local cluster '{plan.name}' is already running at {existing.dashboard}; stop it with "
                    f"`restore-dit cluster down{_named(plan.name)}`, or give another --name"
                )
            _end(existing)
        return _start(plan, say)


def _start(plan: ClusterPlan, say: Callable[[str], None]) -> ClusterRecord:
    # A short path, because Ray puts Unix sockets below it, and the length of their paths is limited.
    folder = Path(tempfile.mkdtemp(prefix="rdc-"))
    gcs_port, client_port, other_port, head_metrics, scaler_metrics, *agent_ports = free_ports(plan.nodes + 5)
    dashboard_port = DASHBOARD_PORT if is_free(DASHBOARD_PORT) else other_port
    record = ClusterRecord(
        name=plan.name,
        folder=folder,
        dashboard=f"http://{LOOPBACK}:{dashboard_port}",
        address=f"{LOOPBACK}:{gcs_port}",
    )
    head = [
        "--head", "--port", str(gcs_port), "--include-dashboard", "true", "--dashboard-host", LOOPBACK,
        "--dashboard-port", str(dashboard_port), "--ray-client-server-port", str(client_port),
    ]  # fmt: skip
    # By default, Ray uses one fixed port of each kind per machine, so two clusters would collide.
    metrics = {"DASHBOARD_METRIC_PORT": str(head_metrics), "AUTOSCALER_METRIC_PORT": str(scaler_metrics)}
    try:
        write_record(record)
        if plan.runner.user is not None:
            folder.chmod(0o711)  # lets the other user reach the folders of its nodes
        # Created empty with its mode, then written: no other user can read it, not even for a moment.
        record.token_file.touch(mode=0o600)
        record.token_file.write_text(secrets.token_hex(32))
        record.environment_file.write_text(_shell_lines(record))
        for index, node in enumerate(_node_plans(plan, agent_ports)):
            place = head if index == 0 else ["--address", record.address]
            extra = metrics | dict(plan.environment)
            record.nodes.append(start_node(node, place, folder, record.token_file, plan.runner, extra))
            write_record(record)
            # Workers start once the head answers: `ray start --address` may wait without end for a head that does not.
            if index == 0:
                _wait(record, 1, plan.seconds, say)
        _wait(record, plan.nodes, plan.seconds, say)
    except BaseException:
        _end(record)
        raise
    return record


def down(name: str = "default") -> bool:
    """Stops everything that `up` started, in whatever state it is. Returns whether there was a cluster."""
    record = read_record(name)
    if record is None:
        return False
    _end(record)
    return True


@contextmanager
def _exclusive(name: str) -> Iterator[None]:
    """Refuses a second concurrent start under the same name, whose record would overwrite the first one's."""
    lock = record_file(name).with_suffix(".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = lock.open("w")
    except OSError as error:
        raise UserError(
            f"{lock.parent}: local clusters cannot be recorded there ({error.strerror}); set XDG_STATE_HOME to a "
            "writable folder"
        ) from None
    with held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"a local cluster '{name}' is being started by another process") from None
        yield


@contextmanager
def running(plan: ClusterPlan) -> Iterator[ClusterRecord]:
    """Starts a cluster and stops it at the end of the block."""
    record = up(plan)
    try:
        yield record
    finally:
        _end(record)


def client_environment(record: ClusterRecord) -> dict[str, str]:
    """Environment variables for a process that uses the cluster, through its dashboard or as a local driver."""
    return LOOPBACK_ONLY | {
        "RAY_ADDRESS": record.address,
        "RAY_API_SERVER_ADDRESS": record.dashboard,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(record.token_file),
    }


def _check(plan: ClusterPlan) -> None:
    if plan.nodes < 1:
        raise UserError(f"--nodes {plan.nodes}: must be at least 1, the head", status=2)
    counts = {"cpus-per-node": plan.cpus_per_node, "gpus-per-node": plan.gpus_per_node, "head-cpus": plan.head_cpus}
    for option, count in counts.items():
        if count is not None and count < 0:
            raise UserError(f"--{option} {count}: must be at least 0", status=2)
    if not plan.name.replace("-", "").replace("_", "").isalnum():
        raise UserError(f"--name {plan.name}: may contain only letters, digits, - and _", status=2)
    if plan.object_store is not None and plan.object_store < 80 << 20:
        raise UserError("--object-store: Ray requires at least 80 MiB per node", status=2)
    if not Path(plan.runner.python).is_file():
        raise UserError(f"--python {plan.runner.python}: no such file", status=2)
    require_startable(plan.runner.python)
    if plan.runner.user is None:
        return
    if os.geteuid() != 0:
        raise UserError("--user: only root may run nodes as another user", status=2)
    try:
        ids(plan.runner.user)
    except KeyError:
        raise UserError(f"--user {plan.runner.user}: no such user", status=2) from None


def _node_plans(plan: ClusterPlan, agent_ports: list[int]) -> list[NodePlan]:
    memory = psutil.virtual_memory().total
    object_store = plan.object_store or max(min(int(memory * 0.1 / plan.nodes), MAX_OBJECT_STORE), 80 << 20)
    head_cpus = plan.cpus_per_node if plan.head_cpus is None else plan.head_cpus
    return [
        NodePlan(
            name="head" if index == 0 else f"node{index}",
            cpus=head_cpus if index == 0 else plan.cpus_per_node,
            gpus=plan.gpus_per_node if index or plan.nodes == 1 else 0,
            memory=int(memory * SHARE_OF_MEMORY / plan.nodes),
            object_store=object_store,
            agent_port=port,
        )
        for index, port in enumerate(agent_ports)
    ]


def _wait(record: ClusterRecord, count: int, seconds: float, say: Callable[[str], None]) -> None:
    """Waits until `count` nodes are alive."""
    until, alive = time.monotonic() + seconds, 0
    while True:
        for node in record.nodes:
            if node.process() is None:
                raise UserError(f"{node.name} of the local cluster failed to start: {_log_excerpt(record, node.name)}")
        with suppress(OSError, KeyError, TypeError):
            found = sum(node.alive for node in dashboard.nodes(record))
            if found > alive:
                say(f"{found} of {count} nodes alive")
            alive = found
        if alive >= count:
            return
        if time.monotonic() > until:
            raise UserError(
                f"{alive} of {count} nodes of the local cluster were alive after {seconds:.0f} s: "
                f"{_log_excerpt(record, record.nodes[-1].name)}; the machine may be too small or too busy, try fewer "
                "--nodes"
            )
        time.sleep(0.5)


def _log_excerpt(record: ClusterRecord, node: str) -> str:
    """The most informative line of a node's log: the last one with an error, else the last one."""
    lines = (record.folder / node / "ray_start.log").read_text(errors="replace").splitlines()
    filled = [" ".join(line.split()) for line in lines if line.strip()]
    informative = [line for line in filled if "rror" in line] or filled
    return informative[-1][:300] if informative else "its log is empty"


def _end(record: ClusterRecord) -> None:
    """Terminates every process of the cluster, kills those that do not end in time, and removes its files."""
    parents = [process for node in record.nodes if (process := node.process())]
    # A node's processes end with its `ray start`. Workers go first, since they would treat a lost head as a failure.
    for process in reversed(parents):
        with suppress(psutil.NoSuchProcess):
            try:
                process.terminate()
            except psutil.AccessDenied:
                owner = process.username()
                raise UserError(
                    f"the local cluster '{record.name}' belongs to {owner}: only {owner} or root may stop it"
                ) from None
    _, remaining = psutil.wait_procs(parents, timeout=SECONDS_TO_END)
    for process in remaining:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    # Drivers of jobs are children of no node, and Ray's own processes may outlive a parent that was killed.
    left = _marked(record)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, remaining = psutil.wait_procs(left, timeout=SECONDS_TO_END / 2)
    for process in [*remaining, *_marked(record)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    shutil.rmtree(record.folder, ignore_errors=True)
    record_file(record.name).unlink(missing_ok=True)


def _marked(record: ClusterRecord) -> list[psutil.Process]:
    """All processes, except this one, with the cluster's mark in their environment. They include drivers of jobs, which
    run in sessions of their own."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == str(record.folder) and process.pid != os.getpid():
                found.append(process)
    return found


def _shell_lines(record: ClusterRecord) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in client_environment(record).items())


def _named(name: str) -> str:
    return "" if name == "default" else f" --name {name}"

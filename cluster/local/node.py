"""One node of a local cluster: a raylet, and on the head Ray's servers, below a process that keeps them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.local.ports import LOOPBACK
from cluster.local.record import NodeRecord, beginning
from restore_dit import threads
from serving.proxy import ENVIRONMENT as PROXY_ENVIRONMENT

MARK = "RESTORE_DIT_CLUSTER"
"""Set to the cluster's folder in the environment of every process of it, so that `down` finds just these."""

# Ray turns a loopback address into the host's own, on which its servers then listen to everybody; and it refuses
# several nodes where it does not. It has no option for several nodes on loopback: both are set before its command runs.
KEEPER = """
from ray._private import ray_constants, services
ray_constants.ENABLE_RAY_CLUSTER = True
services.resolve_ip_for_localhost = str
from ray.scripts.scripts import main
main()
"""

LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""What every process that talks to the cluster needs in its environment, so that Ray keeps to the loopback address."""


@dataclass(frozen=True)
class NodePlan:
    """What a node is to be."""

    name: str
    cpus: int
    gpus: int
    memory: int
    """Bytes that tasks may ask for."""
    object_store: int
    """Bytes of its object store."""
    agent_port: int
    """Of its dashboard agent: distinct, or job submission finds no agent."""

    def arguments(self, folder: Path) -> list[str]:
        """Of `ray start`, for a worker and the head alike."""
        return [
            "start", "--block", "--node-ip-address", LOOPBACK, "--disable-usage-stats", "--log-color", "false",
            "--num-cpus", str(self.cpus), "--num-gpus", str(self.gpus), "--memory", str(self.memory),
            "--object-store-memory", str(self.object_store), "--temp-dir", str(folder / self.name),
            "--dashboard-agent-listen-port", str(self.agent_port), "--min-worker-port", "0", "--max-worker-port", "0",
        ]  # fmt: skip


@dataclass(frozen=True)
class Runner:
    """Who runs the nodes and with what: another interpreter that has the dependencies, another user (needs root)."""

    python: str
    user: str | None = None


def start_node(
    plan: NodePlan, place: list[str], folder: Path, token_file: Path, runner: Runner, extra: Mapping[str, str]
) -> NodeRecord:
    """Starts a node's keeper in a session of its own; it may take seconds until the node is alive.

    Args:
        place: the arguments that make it the head, or name the head.
        folder: the cluster's; the node gets one in it, with its log.
        extra: environment for the node and all that runs on it.
    """
    home = folder / plan.name
    home.mkdir(mode=0o700)
    token = home / "token"
    token.touch(mode=0o600)
    token.write_bytes(token_file.read_bytes())
    log = home / "ray_start.log"
    with log.open("wb") as output:
        if runner.user is not None:
            for path in (home, token, log):
                os.chown(path, *ids(runner.user))
        process = subprocess.Popen(
            [runner.python, "-c", KEEPER, *plan.arguments(folder), *place],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=home,
            env=environment(folder, token, runner) | dict(extra),
            **({} if runner.user is None else dict(zip(("user", "group"), ids(runner.user), strict=True))),  # type: ignore[call-overload]
            extra_groups=None if runner.user is None else [],
        )
    return NodeRecord(name=plan.name, pid=process.pid, begun=beginning(process.pid))


def environment(folder: Path, token: Path, runner: Runner) -> dict[str, str]:
    """The caller's environment, S3 address and credentials included: that is how they reach the nodes. What is meant
    for another Ray cluster stays out, and so does what names the caller's own home where another user runs the node."""
    ours = threads.of_ray_processes(os.environ)
    ours = {name: value for name, value in ours.items() if not name.startswith("RAY_")}
    ours |= LOOPBACK_ONLY | {
        MARK: str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        **PROXY_ENVIRONMENT,
        # A worker group that starts on a machine that is several nodes is slow, not broken.
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
        "PATH": f"{Path(runner.python).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    if runner.user is not None:
        import pwd

        their_home = Path(pwd.getpwnam(runner.user).pw_dir)
        ours |= {"HOME": str(their_home if their_home.is_dir() else token.parent), "USER": runner.user}
        for name in ("VIRTUAL_ENV", "PYTHONPATH", "LOGNAME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            ours.pop(name, None)
    return ours


def ids(user: str) -> tuple[int, int]:
    """User and primary group."""
    import pwd

    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid

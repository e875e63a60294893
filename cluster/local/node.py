"""One node of a local cluster: a `ray start` process with its raylet and, on the head, Ray's servers as children; the
ports it listens on, and the interpreter that runs it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cluster.local.record import NodeRecord, beginning
from restore_dit import threads
from restore_dit.errors import UserError
from restore_dit.private_interfaces import RAY_ON_LOOPBACK

SERVE_ENVIRONMENT = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serving.proxy:middlewares",
}
"""By this, Ray Serve's HTTP proxies on the nodes install the endpoint's middleware."""

MARK = "RESTORE_DIT_CLUSTER"
"""Environment variable of every process of a cluster, set to the cluster's folder, by which `down` finds them."""

LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Environment of every process that connects to the cluster, which makes Ray keep the loopback address."""


@dataclass(frozen=True)
class NodePlan:
    """Configuration of a node."""

    name: str
    cpus: int
    gpus: int
    memory: int
    """Bytes that tasks may reserve."""
    object_store: int
    """Size of its object store, in bytes."""
    agent_port: int
    """Port of its dashboard agent. It must be unique, or job submission finds no agent."""

    def arguments(self, folder: Path) -> list[str]:
        """Arguments of `ray start` that the head and workers share."""
        return [
            "start", "--block", "--node-ip-address", LOOPBACK, "--disable-usage-stats", "--log-color", "false",
            "--num-cpus", str(self.cpus), "--num-gpus", str(self.gpus), "--memory", str(self.memory),
            "--object-store-memory", str(self.object_store), "--temp-dir", str(folder / self.name),
            "--dashboard-agent-listen-port", str(self.agent_port), "--min-worker-port", "0", "--max-worker-port", "0",
        ]  # fmt: skip


@dataclass(frozen=True)
class Runner:
    """The interpreter and the user that run the nodes. The interpreter needs the dependencies; another user, root."""

    python: str
    user: str | None = None


def start_node(
    plan: NodePlan, place: list[str], folder: Path, token_file: Path, runner: Runner, extra: Mapping[str, str]
) -> NodeRecord:
    """Starts a node's `ray start` process in a session of its own. The node may take seconds to be alive.

    Args:
        plan: the node's configuration.
        place: arguments of `ray start` that make it the head, or that name the head.
        folder: the cluster's folder; the node gets its own folder in it, with its log.
        token_file: file of the cluster's token.
        runner: interpreter and user.
        extra: environment variables for the node and everything that runs on it.
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
            [runner.python, "-c", RAY_ON_LOOPBACK, *plan.arguments(folder), *place],
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
    """Environment of a node: the caller's, including S3 endpoint and credentials, which reach the nodes in this way.
    Variables meant for another Ray cluster are left out and, if another user runs the node, so are those that refer to
    the caller's home directory."""
    ours = threads.ray_environment(os.environ)
    # Variables such as RAY_ADDRESS would make the head join the caller's other cluster.
    ours = {name: value for name, value in ours.items() if not name.startswith("RAY_")}
    ours |= LOOPBACK_ONLY | {
        MARK: str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        **SERVE_ENVIRONMENT,
        # Starting a worker group is slow when one machine acts as several nodes.
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
    """User id and primary group id of a user.

    Raises:
        KeyError: no such user.
    """
    import pwd

    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """`count` different ports that are free at the moment."""
    # All are held open at once, or the system would hand out the same port several times.
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


_SPECIAL_TO_SHELL = re.compile(r"[\s\"'\\$`&|;<>()*?#~!{}\[\]]")


def require_startable(python: str) -> None:
    """Refuses paths from which Ray's servers would start but its workers never would, because Ray runs
    `bash -c "exec PYTHON …"` without quotes.

    Raises:
        UserError: the interpreter's path contains a space or another character that is special to a shell.
    """
    found = _SPECIAL_TO_SHELL.search(python)
    if found:
        raise UserError(
            f"{python}: Ray cannot start workers from a path that contains {found[0]!r}: create the environment in "
            "another folder"
        )

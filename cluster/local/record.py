"""Records of local clusters: small files in the user's state folder, written by `up` and removed by `down`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
from pydantic import BaseModel, ValidationError

from restore_dit.errors import UserError


class NodeRecord(BaseModel):
    """A node: its `ray start` process, and when that started, so that a later process with the same pid is not mistaken
    for it."""

    name: str
    pid: int
    begun: str
    """Start time, as returned by `beginning`."""

    def process(self) -> psutil.Process | None:
        """The process; None if it no longer runs."""
        try:
            process = psutil.Process(self.pid)
            alive = beginning(self.pid) == self.begun and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, OSError):
            return None
        return process if alive else None


def beginning(pid: int) -> str:
    """Boot id, and start time of a process in clock ticks since boot. Unlike a time of day, it does not change when the
    clock is set.

    Raises:
        OSError: there is no such process.
    """
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{ticks}"


class ClusterRecord(BaseModel):
    """Record of a local cluster."""

    name: str
    folder: Path
    """Folder with the cluster's token, its nodes' logs and temporary files."""
    dashboard: str
    """Address for `restore-dit submit`: `http://127.0.0.1:PORT`."""
    address: str
    """Address for `RAY_ADDRESS`: `127.0.0.1:PORT`."""
    nodes: list[NodeRecord] = []

    @property
    def token_file(self) -> Path:
        """File of the cluster's token, readable only by its owner."""
        return self.folder / "token"

    @property
    def environment_file(self) -> Path:
        """Shell script to `source` to use the cluster. It contains the path of the token, not the token."""
        return self.folder / "environment"

    @property
    def alive(self) -> bool:
        """Whether any node is running."""
        return any(node.process() for node in self.nodes)


def state_folder() -> Path:
    """Folder with the records of local clusters."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "restore-dit" / "clusters"


def record_file(name: str) -> Path:
    """Path of the record of the cluster with this name."""
    return state_folder() / f"{name}.json"


def read_record(name: str = "default") -> ClusterRecord | None:
    """Record of the local cluster with this name; None if none was started. The cluster may have died since.

    Raises:
        UserError: the record cannot be read.
    """
    path = record_file(name)
    try:
        return ClusterRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}); delete it once no raylet is running"
        ) from None


def write_record(record: ClusterRecord) -> None:
    """Writes the record atomically."""
    path = record_file(record.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(record.model_dump_json(indent=2))
    draft.replace(path)


def records() -> Iterator[ClusterRecord]:
    """All recorded local clusters, sorted by name. Some may have died.

    Raises:
        UserError: a record is damaged.
    """
    for path in sorted(state_folder().glob("*.json")):
        record = read_record(path.stem)
        if record is not None:  # it may have been removed meanwhile
            yield record

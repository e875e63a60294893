"""What is known of a local cluster: a small file in the user's state folder, written by `up`, gone after `down`."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
from pydantic import BaseModel, ValidationError

from restore_dit.errors import UserError


class NodeRecord(BaseModel):
    """A node: the process that keeps its raylet, and when that began, so that another with its number is not mistaken
    for it."""

    name: str
    pid: int
    begun: str
    """As `beginning` tells it."""

    def process(self) -> psutil.Process | None:
        """The process, if it still runs."""
        try:
            process = psutil.Process(self.pid)
            alive = beginning(self.pid) == self.begun and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, OSError):
            return None
        return process if alive else None


def beginning(pid: int) -> str:
    """When a process began, in ticks since the machine was started, and which start that was. A time of day would
    change with the clock.

    Raises:
        OSError: there is no such process.
    """
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{ticks}"


class ClusterRecord(BaseModel):
    """A local cluster."""

    name: str
    folder: Path
    """Everything of the cluster: its token, its nodes' logs and temporary files."""
    dashboard: str
    """Address for `submit`: `http://127.0.0.1:PORT`."""
    address: str
    """Address for `RAY_ADDRESS`: `127.0.0.1:PORT`."""
    nodes: list[NodeRecord] = []

    @property
    def token_file(self) -> Path:
        """The token that the cluster asks for; readable by its owner only."""
        return self.folder / "token"

    @property
    def environment_file(self) -> Path:
        """Shell lines that make the cluster this shell's own; holds the token's path, not the token."""
        return self.folder / "environment"

    @property
    def alive(self) -> bool:
        """Whether any of its nodes runs."""
        return any(node.process() for node in self.nodes)


def state_folder() -> Path:
    """Where local clusters are kept."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "restore-dit" / "clusters"


def record_file(name: str) -> Path:
    """The file of the cluster with this name."""
    return state_folder() / f"{name}.json"


def read_record(name: str = "default") -> ClusterRecord | None:
    """The local cluster of this name, None if none was started; it may have died since.

    Raises:
        UserError: the file is damaged.
    """
    path = record_file(name)
    try:
        return ClusterRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise UserError(f"{path}: cannot be read ({type(error).__name__}); delete it once no raylet runs") from None


def write_record(record: ClusterRecord) -> None:
    """Writes the file whole or not at all."""
    path = record_file(record.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(record.model_dump_json(indent=2))
    draft.replace(path)

"""What is known of a local cluster: a small file in the user's state folder, written by `up`, gone after `down`."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ValidationError

from restore_dit.errors import UserError


class NodeRecord(BaseModel):
    """A node: the process that keeps its raylet, and when that began, so that another with its number is not mistaken
    for it."""

    name: str
    pid: int
    begun: float


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


def state_folder() -> Path:
    """Where local clusters are kept."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "restore-dit" / "clusters"


def read_record(name: str = "default") -> ClusterRecord | None:
    """The local cluster of this name, None if none was started; it may have died since.

    Raises:
        UserError: the file is damaged.
    """
    path = state_folder() / name / "cluster.json"
    try:
        return ClusterRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}); `restore-dit cluster down` clears it"
        ) from None

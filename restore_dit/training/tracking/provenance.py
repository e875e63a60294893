"""Which version of this program runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import restore_dit

COMMIT_VARIABLE = "RESTORE_DIT_COMMIT"
"""Names the commit where the program lies without its repository, as on a cluster."""


def version_tags() -> dict[str, str]:
    """The package's version; the commit where it is known, with `-changed` where files differ from it."""
    tags = {"restore_dit.version": restore_dit.__version__}
    commit = os.environ.get(COMMIT_VARIABLE) or _commit(Path(restore_dit.__file__).resolve().parent.parent)
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def _commit(checkout: Path) -> str | None:
    if not (checkout / ".git").exists():  # never that of a repository which merely holds the environment
        return None
    try:
        commit = _git(checkout, "rev-parse", "HEAD")
        changed = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):  # no git, or no commit yet
        return None
    return commit + ("-changed" if changed else "")


def _git(checkout: Path, *arguments: str) -> str:
    command = ["git", "-C", str(checkout), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

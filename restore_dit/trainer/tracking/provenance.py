"""Which version of this program is running."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import restore_dit

COMMIT_VARIABLE = "RESTORE_DIT_COMMIT"
"""Environment variable with the commit where the program runs outside its repository, such as on a cluster."""


def version_tags() -> dict[str, str]:
    """The package's version and, if known, the commit, with `-changed` appended if files differ from it."""
    tags = {"restore_dit.version": restore_dit.__version__}
    commit = os.environ.get(COMMIT_VARIABLE) or commit_of(Path(restore_dit.__file__).resolve().parent.parent)
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def commit_of(checkout: Path, *paths: str) -> str | None:
    """The commit that is checked out, with `-changed` appended if files differ from it; None if there is no checkout.

    Args:
        checkout: the repository's folder.
        paths: consider only these, including new files in them; if empty, every tracked file.
    """
    if not (checkout / ".git").exists():  # never the commit of a repository that merely contains the environment
        return None
    try:
        commit = _git(checkout, "rev-parse", "HEAD")
        new = "normal" if paths else "no"
        changed = _git(checkout, "status", "--porcelain", f"--untracked-files={new}", "--", *paths)
    except (OSError, subprocess.SubprocessError):  # no git, or no commit yet
        return None
    return commit + ("-changed" if changed else "")


def _git(checkout: Path, *arguments: str) -> str:
    # Variables such as GIT_DIR, which are set while a hook runs, would point to another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(checkout), *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=10, check=True)
    return result.stdout.strip()

"""The files of this project that a job needs: what its wheel carries, from a checkout or from where it is installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import jobs
from restore_dit.errors import UserError

PACKAGES = ("restore_dit", "jobs", "tuning", "serving", "cluster")
SUFFIXES = {".py", ".typed", ".yaml", ".yml", ".json", ".html", ".css", ".js", ".npz", ".svg", ".png", ".sh"}
"""Code and what it reads. A key or a data file that lies among it stays where it is."""

MODELS = ("restore_dit", "models")
"""The folder of the models that ship; all of it is sent."""

SECONDS_FOR_GIT = 60


def project_root() -> Path:
    """The folder that holds the packages: a checkout, or `site-packages`."""
    return Path(jobs.__file__).resolve().parent.parent


def project_files(root: Path) -> dict[str, Path]:
    """The files to send, by their path below `root`, in order. Of a checkout those that git ignores are left out.

    Raises:
        UserError: git cannot say what it ignores.
    """
    names = _files_in_git(root) if (root / ".git").exists() else _files_in_folders(root)
    return {name: root / name for name in sorted(names) if _belongs(Path(name)) and (root / name).is_file()}


def _belongs(name: Path) -> bool:
    is_hidden = any(part.startswith(".") or part == "__pycache__" for part in name.parts)
    return (name.suffix in SUFFIXES or name.parts[:2] == MODELS) and not is_hidden


def _files_in_folders(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for package in PACKAGES for path in (root / package).rglob("*")]


def _files_in_git(root: Path) -> list[str]:
    """Those that git keeps, and new ones that it does not ignore."""
    # Variables such as GIT_DIR, set while a hook runs, would lead to another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *PACKAGES]
    try:
        result = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, timeout=SECONDS_FOR_GIT, check=False
        )
    except FileNotFoundError:
        raise UserError(
            f"{root}: a git checkout, but there is no git to ask which files to send; install git"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{root}: git did not list its files within {SECONDS_FOR_GIT} s") from None
    if result.returncode:
        reason = (result.stderr.decode(errors="replace").splitlines() or ["no reason given"])[0]
        raise UserError(f"{root}: git could not list its files: {reason}")
    return [name.decode("utf-8", errors="surrogateescape") for name in result.stdout.split(b"\0") if name]

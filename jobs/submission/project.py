"""Files of this project that a job needs: the content of its wheel, from a checkout or an installation."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import jobs
from restore_dit.errors import UserError

PACKAGES = ("restore_dit", "jobs", "tuning", "serving", "cluster")
SUFFIXES = {".py", ".typed", ".yaml", ".yml", ".json", ".html", ".css", ".js", ".npz", ".svg", ".png", ".sh"}
"""Suffixes of code and of the files it reads. Keys or data files among them are never sent."""

MODELS = ("restore_dit", "models")
"""Folder of the shipped models, which is sent whole."""

SECONDS_FOR_GIT = 60


def project_root() -> Path:
    """The folder that contains the packages: a checkout, or `site-packages`."""
    return Path(jobs.__file__).resolve().parent.parent


def project_files(root: Path) -> dict[str, Path]:
    """The files to send, sorted, by their path below `root`. In a checkout, files that git ignores are left out.

    Raises:
        UserError: git cannot list the files.
    """
    names = _files_in_git(root) if (root / ".git").exists() else _files_in_folders(root)
    return {name: root / name for name in sorted(names) if _belongs(Path(name)) and (root / name).is_file()}


def _belongs(name: Path) -> bool:
    is_hidden = any(part.startswith(".") or part == "__pycache__" for part in name.parts)
    return (name.suffix in SUFFIXES or name.parts[:2] == MODELS) and not is_hidden


def _files_in_folders(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for package in PACKAGES for path in (root / package).rglob("*")]


def _files_in_git(root: Path) -> list[str]:
    """Files tracked by git, and untracked ones that it does not ignore."""
    # Variables such as GIT_DIR, which are set while a hook runs, would point to another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *PACKAGES]
    try:
        result = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, timeout=SECONDS_FOR_GIT, check=False
        )
    except FileNotFoundError:
        raise UserError(f"{root}: a git checkout, but git, which lists the files to send, is not installed") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{root}: git did not list its files within {SECONDS_FOR_GIT} s") from None
    if result.returncode:
        reason = (result.stderr.decode(errors="replace").splitlines() or ["no reason given"])[0]
        raise UserError(f"{root}: git could not list its files: {reason}")
    return [name.decode("utf-8", errors="surrogateescape") for name in result.stdout.split(b"\0") if name]

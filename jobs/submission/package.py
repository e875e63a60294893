"""Packs a job's working directory for the cluster: one ZIP of the project, the configuration and small files. The
project is the content of its wheel, from a checkout or an installation.

Packing is deterministic: the same content gives the same bytes, so that a cluster that already has the package does not
get it again.
"""

from __future__ import annotations

import io
import os
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

import jobs
from restore_dit.errors import UserError

MAX_BYTES = 32 << 20
"""Maximum size of a package; the project is about 1 MB. Ray keeps packages in the memory of the cluster's head."""

_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def pack(project: Mapping[str, Path], files: Mapping[str, bytes]) -> bytes:
    """The content of the ZIP.

    Args:
        project: files of the project, by their path in the ZIP.
        files: contents of further files, by their path in the ZIP.

    Raises:
        UserError: a file cannot be read, or the package is too large.
    """
    sizes: dict[str, int] = {}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in sorted({*project, *files}):
            data = files[name] if name in files else _read(project[name])
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # always Unix, so that the bytes do not depend on the platform
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, compresslevel=6)
            sizes[name] = archive.infolist()[-1].compress_size
    if content.tell() > MAX_BYTES:
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
        raise UserError(
            f"the package for the cluster is {content.tell() / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f} MB; the "
            f"largest files: {', '.join(f'{name} ({sizes[name] / 1e6:.0f} MB)' for name in largest)}; move files "
            "that are not code out of the packages, or add them to .gitignore"
        )
    return content.getvalue()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


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

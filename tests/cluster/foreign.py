"""An environment with this project's dependencies and without the project, for a user who cannot read the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

USER = "nobody"


@dataclass(frozen=True)
class Foreign:
    """The environment: its interpreter, and the variables that it needs."""

    python: Path
    variables: dict[str, str]


def dependencies_only(folder: Path) -> Foreign:
    """Makes the environment in `folder`, which any user may read.

    Files are linked where the file system allows, so that gigabytes of libraries take seconds.
    """
    base, variables = Path(sys.base_prefix), {}
    if not _readable_by_all(base):
        shutil.copytree(base, folder / "python", symlinks=True, copy_function=_link, ignore=_caches)
        base = folder / "python"
        variables["LD_LIBRARY_PATH"] = str(base / "lib")  # its own libpython, which it looks for where it was built
    interpreter = base / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    subprocess.run(
        [interpreter, "-m", "venv", "--without-pip", folder / "env"], check=True, timeout=60,
        env=os.environ | variables,
    )  # fmt: skip
    source = Path(sysconfig.get_path("purelib"))
    target = folder / "env" / source.relative_to(sys.prefix)
    target.rmdir()
    shutil.copytree(source, target, symlinks=True, copy_function=_link, ignore=_project)
    folder.chmod(0o755)
    return Foreign(folder / "env" / "bin" / "python", variables)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _caches(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name in ("site-packages", "test", "__pycache__")]


def _project(folder: str, names: list[str]) -> list[str]:
    """What an editable installation leaves in site-packages."""
    return [name for name in names if "restore_dit" in name]


def _readable_by_all(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in (path, *path.parents))

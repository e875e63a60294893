"""Files on this machine: written as a whole or not at all, whenever the writer dies."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

_PARTIAL = ".partial"


def replace_file(path: Path, content: bytes | pa.Buffer) -> None:
    """Write a file, and its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex}{_PARTIAL}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name, too, survives a power cut
    finally:
        os.close(folder)


def delete_partial_files(folder: Path, older_than: float) -> None:
    """Remove what killed writers left in a folder more than `older_than` seconds ago."""
    for partial in folder.glob(f".*{_PARTIAL}"):
        with suppress(FileNotFoundError):  # its writer lives, and has just given it its name
            if time.time() - partial.stat().st_mtime > older_than:
                partial.unlink()

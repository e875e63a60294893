"""Files on this machine, written as a whole or not at all, even if the writer dies."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO

import pyarrow as pa

_PARTIAL = ".partial"
_BLOCK = 1 << 20


def replace_file(path: Path, content: bytes | pa.Buffer | IO[bytes]) -> None:
    """Writes a file atomically, creating its folder if needed; `content` may be an open file, which is copied."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex}{_PARTIAL}")
    try:
        with partial.open("wb") as file:
            if isinstance(content, bytes | pa.Buffer):
                file.write(content)
            else:
                content.seek(0)
                shutil.copyfileobj(content, file, _BLOCK)
            # Before the rename: after a power failure, the new name could otherwise refer to an empty file.
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # so that the new name survives a power failure, too
    finally:
        os.close(folder)


def delete_partial_files(folder: Path, older_than: float) -> None:
    """Removes what killed writers left in a folder more than `older_than` seconds ago."""
    for partial in folder.glob(f".*{_PARTIAL}"):
        with suppress(FileNotFoundError):  # its writer is alive and has just renamed it
            if time.time() - partial.stat().st_mtime > older_than:
                partial.unlink()

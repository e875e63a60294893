"""Whole files and folders: read, write, check, list, delete. Files are written as a whole or not at all, even if the
writer dies."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO

import pyarrow as pa

from restore_dit.data.storage import objects
from restore_dit.data.storage.failures import explained
from restore_dit.data.storage.locations import Place, locate


def read_bytes(place: Place) -> bytes:
    """The whole content of a file."""
    location = locate(place)
    with explained(location.uri, "read"):
        return Path(location.path).read_bytes() if location.is_local else objects.read_object(location)


def open_file(place: Place) -> pa.NativeFile:
    """The file, opened for random access."""
    location = locate(place)
    with explained(location.uri, "read"):
        try:
            return location.filesystem.open_input_file(location.path)
        except OSError:
            if not location.is_local:
                objects.object_exists(location)  # raises a more informative error than this client's bare status
            raise


def write_bytes_atomically(place: Place, content: bytes | pa.Buffer | IO[bytes]) -> None:
    """Writes a file so that others see either all of it or nothing, even if this process dies. The content may be an
    open file, read from its beginning in blocks."""
    location = locate(place)
    with explained(location.uri, "write"):
        if location.is_local:
            replace_file(Path(location.path), content)
        else:
            objects.write_object(location, content)


def exists(place: Place) -> bool:
    """Whether a file or folder exists."""
    location = locate(place)
    with explained(location.uri, "look up"):
        if location.is_local:
            return os.path.exists(location.path)
        return objects.object_exists(location) or objects.folder_exists(location)


def is_folder(place: Place) -> bool:
    """Whether a folder exists; on an S3 server, whether any key begins with it."""
    location = locate(place)
    with explained(location.uri, "look up"):
        return os.path.isdir(location.path) if location.is_local else objects.folder_exists(location)


def list_names(place: Place) -> list[str]:
    """The names in a folder, sorted; empty if the folder does not exist. Hidden names (unfinished writes) are
    omitted."""
    location = locate(place)
    with explained(location.uri, "list"):
        if not location.is_local:
            names = list(objects.names_below(location))
        else:
            names = os.listdir(location.path) if os.path.lexists(location.path) else []
    return sorted(name for name in names if not name.startswith("."))


def delete(place: Place) -> None:
    """Removes a file, if it exists."""
    location = locate(place)
    with explained(location.uri, "delete"):
        if location.is_local:
            Path(location.path).unlink(missing_ok=True)
        else:
            objects.delete_object(location)


def delete_folder(place: Place) -> None:
    """Removes a folder and everything in it, if it exists."""
    location = locate(place)
    with explained(location.uri, "delete"):
        if not location.is_local:
            objects.delete_below(location)
        elif os.path.lexists(location.path):
            shutil.rmtree(location.path)


def delete_abandoned_writes(place: Place, older_than: float = 3600.0) -> None:
    """Removes what killed writers left in a folder, except for writes younger than `older_than` seconds, which may
    still be in progress. On an S3 server this includes everything below the folder."""
    location = locate(place)
    with explained(location.uri, "clean"):
        if location.is_local:
            delete_partial_files(Path(location.path), older_than)
        else:
            objects.abort_uploads_below(location, older_than)


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

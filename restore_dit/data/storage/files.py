"""Whole files and folders: read, write, look up, list, delete."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from restore_dit.data.storage.failures import explained
from restore_dit.data.storage.locations import Location, Place, locate

_PARTIAL = ".partial"


def read_bytes(place: Place) -> bytes:
    """The whole content of a file."""
    location = locate(place)
    with explained(location.uri, "read"), location.filesystem.open_input_stream(location.path) as stream:
        return stream.read()


def open_file(place: Place) -> pa.NativeFile:
    """The file, open for reading at any position."""
    location = locate(place)
    with explained(location.uri, "read"):
        return location.filesystem.open_input_file(location.path)


def write_bytes_atomically(place: Place, content: bytes | pa.Buffer) -> None:
    """Write a file so that others see all of it or nothing, whenever this process dies."""
    location = locate(place)
    with explained(location.uri, "write"):
        if location.is_local:
            _replace_local(Path(location.path), content)
        else:
            # A single put, and a completed multipart upload, appear as a whole or not at all.
            with location.filesystem.open_output_stream(location.path) as stream:
                stream.write(content)


def _replace_local(path: Path, content: bytes | pa.Buffer) -> None:
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


def exists(place: Place) -> bool:
    """Whether a file or folder is there."""
    location = locate(place)
    with explained(location.uri, "look up"):
        found = location.filesystem.get_file_info(location.path).type != fs.FileType.NotFound
    if not found:
        _require_bucket(location)
    return found


def _require_bucket(location: Location) -> None:
    """In a bucket that does not exist nothing is found either, and nothing can ever be written."""
    if location.is_local:
        return
    bucket = location.path.partition("/")[0]
    with explained(location.uri, "look up"):
        if location.filesystem.get_file_info(bucket).type == fs.FileType.NotFound:
            raise OSError("NO_SUCH_BUCKET")


def is_folder(place: Place) -> bool:
    """Whether a folder is there; on an object store, whether any key begins with it."""
    location = locate(place)
    with explained(location.uri, "look up"):
        return location.filesystem.get_file_info(location.path).type == fs.FileType.Directory


def list_names(place: Place) -> list[str]:
    """The names in a folder, sorted; none for a folder that is not there. Hidden names (unfinished writes) are left
    out."""
    location = locate(place)
    with explained(location.uri, "list"):
        entries = location.filesystem.get_file_info(fs.FileSelector(location.path, allow_not_found=True))
    if not entries:
        _require_bucket(location)
    return sorted(entry.base_name for entry in entries if not entry.base_name.startswith("."))


def delete(place: Place) -> None:
    """Remove one file."""
    location = locate(place)
    with explained(location.uri, "delete"):
        location.filesystem.delete_file(location.path)


def delete_folder(place: Place) -> None:
    """Remove a folder and all that is in it."""
    location = locate(place)
    with explained(location.uri, "delete"):
        location.filesystem.delete_dir(location.path)


def delete_abandoned_writes(place: Place, older_than: float = 3600.0) -> None:
    """Remove what killed writers left in a folder, but for writes younger than `older_than` seconds: they may live."""
    location = locate(place)
    if not location.is_local or not os.path.isdir(location.path):
        return
    with explained(location.uri, "clean"):
        for partial in Path(location.path).glob(f".*{_PARTIAL}"):
            if time.time() - partial.stat().st_mtime > older_than:
                partial.unlink(missing_ok=True)

"""Whole files and folders: read, write, look up, list, delete."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow as pa

from restore_dit.data.storage import objects
from restore_dit.data.storage.failures import explained
from restore_dit.data.storage.local_files import delete_partial_files, replace_file
from restore_dit.data.storage.locations import Place, locate


def read_bytes(place: Place) -> bytes:
    """The whole content of a file."""
    location = locate(place)
    with explained(location.uri, "read"):
        return Path(location.path).read_bytes() if location.is_local else objects.read_object(location)


def open_file(place: Place) -> pa.NativeFile:
    """The file, open for reading at any position."""
    location = locate(place)
    with explained(location.uri, "read"):
        try:
            return location.filesystem.open_input_file(location.path)
        except OSError:
            if not location.is_local:
                objects.object_exists(location)  # says what the matter is, where the client here knows a status only
            raise


def write_bytes_atomically(place: Place, content: bytes | pa.Buffer) -> None:
    """Write a file so that others see all of it or nothing, whenever this process dies."""
    location = locate(place)
    with explained(location.uri, "write"):
        if location.is_local:
            replace_file(Path(location.path), content)
        else:
            objects.write_object(location, content)


def exists(place: Place) -> bool:
    """Whether a file or folder is there."""
    location = locate(place)
    with explained(location.uri, "look up"):
        if location.is_local:
            return os.path.exists(location.path)
        return objects.object_exists(location) or objects.folder_exists(location)


def is_folder(place: Place) -> bool:
    """Whether a folder is there; on an S3 server, whether any key begins with it."""
    location = locate(place)
    with explained(location.uri, "look up"):
        return os.path.isdir(location.path) if location.is_local else objects.folder_exists(location)


def list_names(place: Place) -> list[str]:
    """The names in a folder, sorted; none for a folder that is not there. Hidden names (unfinished writes) are left
    out."""
    location = locate(place)
    with explained(location.uri, "list"):
        if not location.is_local:
            names = list(objects.names_below(location))
        else:
            names = os.listdir(location.path) if os.path.lexists(location.path) else []
    return sorted(name for name in names if not name.startswith("."))


def delete(place: Place) -> None:
    """Remove one file; nothing happens where there is none."""
    location = locate(place)
    with explained(location.uri, "delete"):
        if location.is_local:
            Path(location.path).unlink(missing_ok=True)
        else:
            objects.delete_object(location)


def delete_folder(place: Place) -> None:
    """Remove a folder and all that is in it; nothing happens where there is none."""
    location = locate(place)
    with explained(location.uri, "delete"):
        if not location.is_local:
            objects.delete_below(location)
        elif os.path.lexists(location.path):
            shutil.rmtree(location.path)


def delete_abandoned_writes(place: Place, older_than: float = 3600.0) -> None:
    """Remove what killed writers left in a folder, but for writes younger than `older_than` seconds: they may live. On
    an S3 server that is in a folder and all below it."""
    location = locate(place)
    with explained(location.uri, "clean"):
        if location.is_local:
            delete_partial_files(Path(location.path), older_than)
        else:
            objects.abort_uploads_below(location, older_than)

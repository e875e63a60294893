"""Files that several writers change, without overwriting changes that they have not seen.

content, version = read_versioned(place)
while not write_if_version(place, changed(content), version):
    content, version = read_versioned(place)
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from botocore.exceptions import ClientError

from restore_dit.data.storage.failures import explained
from restore_dit.data.storage.files import replace_file
from restore_dit.data.storage.locations import Location, Place, locate
from restore_dit.data.storage.objects import get_object, put_object

_ABSENT = ("NoSuchKey",)
_CHANGED = ("PreconditionFailed", "ConditionalRequestConflict", *_ABSENT)


def read_versioned(place: Place) -> tuple[bytes | None, str | None]:
    """The content and version of a file; (None, None) if it does not exist."""
    location = locate(place)
    with explained(location.uri, "read"):
        return _read_local(location) if location.is_local else _read_object(location)


def write_if_version(place: Place, content: bytes | pa.Buffer, version: str | None) -> bool:
    """Writes a file, as a whole or not at all, if it is still at `version` (None: if it still does not exist).

    On an S3 server this is one conditional request, decided by the server. If the server does not support conditions
    (older Ceph, some appliances), the file is checked and then written; two writers within the same tenths of a second
    may then overwrite each other's changes. On this machine a hidden file next to it is locked; the lock ends with the
    process that holds it.

    Returns:
        False if another writer came first: read again and decide anew.
    """
    location = locate(place)
    with explained(location.uri, "write"):
        if not location.is_local:
            return _put_if_version(location, content, version)
        with _locked(location):
            if _read_local(location)[1] != version:
                return False
            replace_file(Path(location.path), content)
            return True


def _read_local(location: Location) -> tuple[bytes | None, str | None]:
    try:
        content = Path(location.path).read_bytes()
    except FileNotFoundError:
        return None, None
    return content, hashlib.sha256(content).hexdigest()


@contextmanager
def _locked(location: Location) -> Iterator[None]:
    path = Path(location.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never removed: a process that opened it before would hold a lock that no other process sees.
    with path.with_name(f".{path.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read_object(location: Location) -> tuple[bytes | None, str | None]:
    try:
        return get_object(location)
    except ClientError as error:
        if error.response["Error"]["Code"] in _ABSENT:
            return None, None
        raise


def _put_if_version(location: Location, content: bytes | pa.Buffer, version: str | None) -> bool:
    # Without its quotes, which older Ceph versions treat as part of it.
    condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version.strip('"')}
    try:
        put_object(location, content, **condition)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        # Not as safe as a condition, but the only way on servers without them; see `docs/object_storage.md`.
        if code == "NotImplemented":
            if _read_object(location)[1] != version:
                return False
            put_object(location, content)
        elif code in _CHANGED:
            # It may be our own write: one whose response was lost is sent again and then finds itself.
            return _read_object(location)[0] == bytes(content)
        else:
            raise
    return True

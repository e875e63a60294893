"""What a URI or path refers to: a file or folder on this machine or on an S3 server."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from restore_dit.data.storage.addresses import file_uri, path_of, scheme_of, without_secrets
from restore_dit.data.storage.failures import explained
from restore_dit.data.storage.s3_service import S3Service, s3_service
from restore_dit.errors import UserError

_NO_NAME = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class Location:
    """A file or folder: `uri` as shown to the user, `path` as named by its `filesystem`, `s3` its server, if any."""

    uri: str
    path: str
    s3: S3Service | None = None

    @property
    def filesystem(self) -> fs.FileSystem:
        """The file system that it is on."""
        return self.s3.filesystem() if self.s3 else fs.LocalFileSystem()

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's own file system."""
        return self.s3 is None

    @property
    def bucket_and_key(self) -> tuple[str, str]:
        """Bucket and key on an S3 server."""
        bucket, _, key = self.path.partition("/")
        return bucket, key

    def join(self, *parts: str) -> Location:
        """The location below this one, such as `join("tiles", "a.parquet")`; names are used verbatim."""
        path = "/".join((self.path.rstrip("/"), *parts))
        if scheme_of(self.uri) == "file":
            return Location(file_uri(path), path)
        return Location("/".join((self.uri.rstrip("/"), *parts)), path, self.s3)


Place = Location | str | Path
"""Anything that storage functions accept: a URI, a plain path, or a `Location`."""


def locate(uri: Place) -> Location:
    """The location that a URI or plain path refers to. Nothing is contacted yet, except to find an S3 bucket's unknown
    region.

    Everything after `s3://bucket/` is the key, verbatim; see `path_of` for `file://`. The result's `uri` refers to the
    same location.

    Raises:
        UserError: an unsupported scheme, a URI without a bucket, or one that contains credentials.
    """
    if isinstance(uri, Location):
        return uri
    text = str(uri)
    scheme = scheme_of(text)
    if scheme == "s3":
        return _locate_s3(text)
    if scheme not in (None, "file"):
        raise UserError(f"{without_secrets(text)}: unknown scheme '{scheme}://'; use a path, file:// or s3://")
    if not text:
        raise UserError("an empty path: specify a folder or a URI such as s3://bucket/folder")
    path = os.path.abspath(path_of(text) if scheme else os.path.expanduser(text))
    if _NO_NAME.search(path):
        raise UserError(f"{text!a}: contains characters that are invalid in UTF-8 names: rename the file or folder")
    return Location(file_uri(path) if scheme else text, path)


def split_s3(uri: str) -> tuple[str, str]:
    """Bucket and key, without contacting a server.

    Raises:
        UserError: there is no bucket, or credentials precede it.
    """
    bucket, _, key = uri.partition("://")[2].partition("/")
    if "@" in bucket or ":" in bucket:
        # Not echoed, since the message may end up in a log.
        raise UserError("s3://…@…: a URI must not contain credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bucket):
        raise UserError(f"{uri}: no valid bucket name; write s3://bucket/folder")
    return bucket, key


def _locate_s3(uri: str) -> Location:
    bucket, key = split_s3(uri)
    with explained(uri, "connect to"):
        service = s3_service(bucket)
    return Location(uri, f"{bucket}/{key}".rstrip("/"), service)

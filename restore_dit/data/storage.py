"""Files at any URI: a plain path, `file://` or `s3://`, through one pyarrow filesystem that passes pickling.

Every function takes a URI or a `Location`. For `s3://` the address comes from `AWS_ENDPOINT_URL_S3` or
`AWS_ENDPOINT_URL`, the region from `AWS_REGION` or `AWS_DEFAULT_REGION`, credentials from AWS's usual chain
(environment, profile, instance role); they are never part of a URI nor of a pickle. Whatever goes wrong is a
`UserError` of one line.
"""

from __future__ import annotations

import errno
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from restore_dit.errors import UserError

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_CONNECT_SECONDS = 5
_REQUEST_SECONDS = 60
_ATTEMPTS = 3
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Location:
    """A file or folder: `uri` as shown to the user, `path` as its `filesystem` names it."""

    uri: str
    filesystem: fs.FileSystem
    path: str

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine's own file system."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def join(self, *parts: str) -> Location:
        """The location below this one, such as `join("tiles", "a.parquet")`."""
        return Location(join_uri(self.uri, *parts), self.filesystem, join_uri(self.path, *parts))


def join_uri(uri: str, *parts: str) -> str:
    """The URI of what lies below a folder, such as `join_uri("s3://bucket/store", "tiles", "a.parquet")`."""
    return "/".join((uri.rstrip("/"), *parts))


Place = Location | str | Path
"""What every function here takes: a URI, a plain path, or a location already built from one."""


def locate(uri: Place) -> Location:
    """The location that a URI or plain path names. Nothing is contacted yet, but for an S3 bucket's unknown region.

    Raises:
        UserError: a scheme that nobody here serves, a URI without a bucket, or one that carries credentials.
    """
    if isinstance(uri, Location):
        return uri
    text = str(uri)
    match = _SCHEME.match(text)
    if match is None:
        if not text:
            raise UserError("an empty path: give a folder or a URI such as s3://bucket/folder")
        return Location(text, fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(text)))
    scheme = match.group(1).lower()
    if scheme == "s3":
        return _locate_s3(text)
    if scheme == "file":
        with _explained(text, "parse"):
            filesystem, path = fs.FileSystem.from_uri(text)
        return Location(text, filesystem, path)
    raise UserError(f"{text}: unknown scheme '{scheme}://'; use a path, file:// or s3://")


def _locate_s3(uri: str) -> Location:
    bucket, _, key = uri[len("s3://") :].partition("/")
    if "@" in bucket:
        # Not echoed: the message may end in a log.
        raise UserError("s3://…@…: credentials do not belong in a URI; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bucket):
        raise UserError(f"{uri}: no valid bucket name; write s3://bucket/folder")
    with _explained(uri, "connect to"):
        return Location(uri, _s3_filesystem(bucket), f"{bucket}/{key}".rstrip("/"))


def _s3_filesystem(bucket: str) -> fs.S3FileSystem:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not endpoint:
        return _s3_client(None, None, region or _region_of(bucket))
    address = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    if address.scheme not in ("http", "https") or not address.hostname:
        raise UserError(f"AWS_ENDPOINT_URL={endpoint}: not an address; write http://host:port or https://host")
    # Servers other than AWS's own reject the SDK's newer default checksums.
    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    return _s3_client(address.scheme, address.netloc, region or "us-east-1")


@lru_cache(maxsize=16)
def _region_of(bucket: str) -> str:
    return fs.resolve_s3_region(bucket)


@lru_cache(maxsize=16)
def _s3_client(scheme: str | None, address: str | None, region: str) -> fs.S3FileSystem:
    """Path-style where `address` is given, as servers without a wildcard name need it."""
    return fs.S3FileSystem(
        scheme=scheme,
        endpoint_override=address,
        region=region,
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_REQUEST_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        force_virtual_addressing=False,
    )


def read_bytes(place: Place) -> bytes:
    """The whole content of a file."""
    location = locate(place)
    with _explained(location.uri, "read"), location.filesystem.open_input_stream(location.path) as stream:
        return stream.read()


def open_file(place: Place) -> pa.NativeFile:
    """The file, open for reading at any position."""
    location = locate(place)
    with _explained(location.uri, "read"):
        return location.filesystem.open_input_file(location.path)


def write_bytes_atomically(place: Place, content: bytes | pa.Buffer) -> None:
    """Write a file so that others see all of it or nothing, whenever this process dies."""
    location = locate(place)
    with _explained(location.uri, "write"):
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
    with _explained(location.uri, "look up"):
        found = location.filesystem.get_file_info(location.path).type != fs.FileType.NotFound
    if not found:
        _require_bucket(location)
    return found


def _require_bucket(location: Location) -> None:
    """In a bucket that does not exist nothing is found either, and nothing can ever be written."""
    if location.is_local:
        return
    bucket = location.path.partition("/")[0]
    with _explained(location.uri, "look up"):
        if location.filesystem.get_file_info(bucket).type == fs.FileType.NotFound:
            raise OSError("NO_SUCH_BUCKET")


def is_folder(place: Place) -> bool:
    """Whether a folder is there; on an object store, whether any key begins with it."""
    location = locate(place)
    with _explained(location.uri, "look up"):
        return location.filesystem.get_file_info(location.path).type == fs.FileType.Directory


def list_names(place: Place) -> list[str]:
    """The names in a folder, sorted; none for a folder that is not there. Hidden names (unfinished writes) are left
    out."""
    location = locate(place)
    with _explained(location.uri, "list"):
        entries = location.filesystem.get_file_info(fs.FileSelector(location.path, allow_not_found=True))
    if not entries:
        _require_bucket(location)
    return sorted(entry.base_name for entry in entries if not entry.base_name.startswith("."))


def delete(place: Place) -> None:
    """Remove one file."""
    location = locate(place)
    with _explained(location.uri, "delete"):
        location.filesystem.delete_file(location.path)


def delete_folder(place: Place) -> None:
    """Remove a folder and all that is in it."""
    location = locate(place)
    with _explained(location.uri, "delete"):
        location.filesystem.delete_dir(location.path)


def delete_abandoned_writes(place: Place, older_than: float = 3600.0) -> None:
    """Remove what killed writers left in a folder, but for writes younger than `older_than` seconds: they may live."""
    location = locate(place)
    if not location.is_local or not os.path.isdir(location.path):
        return
    with _explained(location.uri, "clean"):
        for partial in Path(location.path).glob(f".*{_PARTIAL}"):
            if time.time() - partial.stat().st_mtime > older_than:
                partial.unlink(missing_ok=True)


# What a server or the AWS client says, and what the user can do about it; the first that matches counts.
_ADVICE = (
    (
        r"NO_SUCH_BUCKET|NoSuchBucket|Bucket '.*' not found",
        "the bucket does not exist: correct its name or create it first",
    ),
    (
        r"INVALID_ACCESS_KEY_ID|InvalidAccessKeyId|SIGNATURE_DOES_NOT_MATCH|SignatureDoesNotMatch|INVALID_SIGNATURE"
        r"|UNRECOGNIZED_CLIENT|EXPIRED_TOKEN|ExpiredToken|INVALID_CLIENT_TOKEN_ID",
        "the server refuses these keys: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
    ),
    (
        r"ACCESS_DENIED|AccessDenied|HTTP status 403|Forbidden",
        "access denied: check the keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) and their rights on this bucket",
    ),
    (
        r"NETWORK_CONNECTION|curlCode|Couldn't connect|REQUEST_TIMEOUT|timed? ?out|Could not resolve",
        "the storage server cannot be reached: check AWS_ENDPOINT_URL, the network, and that the server runs",
    ),
    (r"NO_SUCH_KEY|NoSuchKey|Path does not exist|RESOURCE_NOT_FOUND", "not found: check the path"),
)


@contextmanager
def _explained(uri: str, action: str) -> Iterator[None]:
    """Turn a storage failure into one line: what, where, what to do."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{uri}: not found: check the path") from None
    except PermissionError:
        raise UserError(
            f"{uri}: cannot {action}: permission denied: check the rights of the file and its folder"
        ) from None
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise UserError(f"{uri}: cannot {action}: {error.strerror or _first_line(error)}; check the path") from None
    except (OSError, pa.ArrowException) as error:
        message = str(error)
        advice = next((advice for pattern, advice in _ADVICE if re.search(pattern, message)), None)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "no space left: free some or choose another place"
        raise UserError(f"{uri}: cannot {action}: {advice or _first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]

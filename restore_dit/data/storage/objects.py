"""Objects of an S3 server, treated as files and folders. Raises boto3's errors, which `explained` translates.

A file is read or written with one request, without a prior look-up and without the empty objects that represent folders
elsewhere; existing ones do not count as files.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

from restore_dit.data.storage.locations import Location
from restore_dit.data.storage.s3_service import ATTEMPTS
from restore_dit.errors import UserError

if TYPE_CHECKING:
    from botocore.client import BaseClient

PART = 16 << 20
"""Larger contents are uploaded in parts of this many bytes, each of which can be retried separately."""

_PARALLEL_PARTS = 4
_PARALLEL_DELETIONS = 8


def read_object(location: Location, span: tuple[int, int] | None = None) -> bytes:
    """The object's content, or its bytes from span[0] up to but not including span[1]. The client retries a request
    that fails before its response begins; a response that breaks off is retried here."""
    return get_object(location, span)[0]


def get_object(location: Location, span: tuple[int, int] | None = None) -> tuple[bytes, str]:
    """The content as from `read_object`, and the object's ETag."""
    request = {"Range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
    for attempt in range(1, ATTEMPTS + 1):
        answer = _client(location).get_object(**object_name(location), **request)
        try:
            return answer["Body"].read(), answer["ETag"]
        # Read again from the beginning: if the object was replaced meanwhile, the rest would belong to another one.
        except (HTTPClientError, IncompleteReadError):
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def write_object(location: Location, content: bytes | pa.Buffer | IO[bytes]) -> None:
    """Writes the object, as a whole or not at all."""
    stream = _stream(content)
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if size <= PART:
        put_object(location, content)
        return
    from boto3.s3.transfer import TransferConfig

    parts = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=_PARALLEL_PARTS)
    _client(location).upload_fileobj(stream, *object_name(location).values(), Config=parts)


def put_object(location: Location, content: bytes | pa.Buffer | IO[bytes], **condition: str) -> None:
    """Writes the object with one request, under a condition such as `IfMatch`."""
    _client(location).put_object(**object_name(location), Body=_stream(content), **condition)


def _stream(content: bytes | pa.Buffer | IO[bytes]) -> IO[bytes] | pa.NativeFile:
    """The content as a file, so that it is sent in blocks. Sent as one piece, it would have to be transferred within
    the time limit of one socket operation, which a slow connection cannot meet."""
    if isinstance(content, bytes):
        return io.BytesIO(content)
    return pa.BufferReader(content) if isinstance(content, pa.Buffer) else content


def object_name(location: Location) -> dict[str, str]:
    """Bucket and key as boto3 arguments."""
    bucket, key = location.bucket_and_key
    if not key:
        raise UserError(f"{location.uri}: a bucket, not a file; write s3://{bucket}/file")
    return {"Bucket": bucket, "Key": key}


def object_exists(location: Location) -> bool:
    """Whether the object exists."""
    _, key = location.bucket_and_key
    if not key:
        return False
    try:
        _client(location).head_object(**object_name(location))
    except ClientError as error:
        status = error.response["Error"]["Code"]
        # A failure of the server says nothing about the object, so it must not be taken for absence.
        if not status.startswith(("3", "4")):
            raise
        # The response has no body with details. Listing may reveal them: wrong or expired keys, or a bucket that does
        # not exist or is in another region.
        next(_page(location, MaxKeys=1))
        if status != "404":
            raise
        return False
    return True


def folder_exists(location: Location) -> bool:
    """Whether any object lies below it, or it is a bucket."""
    _, key = location.bucket_and_key
    return bool(next(_page(location, MaxKeys=1)).get("KeyCount")) or not key


def names_below(location: Location) -> Iterator[str]:
    """The names of the objects and folders directly below, in no particular order."""
    prefix = _prefix(location)
    for page in _page(location, Delimiter="/"):
        for entry in page.get("Contents", ()):
            if entry["Key"] != prefix:  # an empty object that represents the folder
                yield entry["Key"][len(prefix) :]
        for entry in page.get("CommonPrefixes", ()):
            yield entry["Prefix"][len(prefix) : -1]


def delete_object(location: Location) -> None:
    """Removes the object, if it exists."""
    _client(location).delete_object(**object_name(location))


def delete_below(location: Location) -> None:
    """Removes every object below, one by one, since older servers do not support bulk deletion or require other
    permissions for it."""
    bucket, _ = location.bucket_and_key
    client = _client(location)

    def delete_key(key: str) -> None:
        client.delete_object(Bucket=bucket, Key=key)

    with ThreadPoolExecutor(_PARALLEL_DELETIONS) as pool:
        for page in _page(location):
            list(pool.map(delete_key, [entry["Key"] for entry in page.get("Contents", ())]))


def abort_uploads_below(location: Location, older_than: float) -> None:
    """Aborts multipart uploads that began more than `older_than` seconds ago, whose writers must be dead."""
    bucket, _ = location.bucket_and_key
    client = _client(location)
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=_prefix(location)):
        for upload in page.get("Uploads", ()):
            if time.time() - upload["Initiated"].timestamp() > older_than:
                client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def _client(location: Location) -> BaseClient:
    assert location.s3 is not None
    return location.s3.client()


def _prefix(location: Location) -> str:
    _, key = location.bucket_and_key
    return f"{key}/" if key else ""


def _page(location: Location, **words: Any) -> Iterator[dict[str, Any]]:
    bucket, _ = location.bucket_and_key
    pages = _client(location).get_paginator("list_objects_v2")
    return iter(pages.paginate(Bucket=bucket, Prefix=_prefix(location), **words))

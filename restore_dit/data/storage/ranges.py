"""Reads parts of a file without reading the rest, which tile readers do hundreds of times per second.

A range through boto3 costs 1.1 to 1.4 ms of CPU time with the interpreter's lock held, through obstore 0.3 to 0.4 ms
without it. If obstore returns anything other than the expected bytes, the request is repeated through boto3, which
retries and reports what is wrong. (pyarrow's files are as fast, but return arbitrary memory contents if an object has
become shorter since it was opened.)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
from botocore.exceptions import ClientError

from restore_dit.data.storage.failures import explained
from restore_dit.data.storage.locations import Location, Place, locate
from restore_dit.data.storage.objects import object_name, read_object
from restore_dit.errors import UserError

GAP = 256 << 10
"""Gap in bytes between two ranges up to which reading across it is cheaper than another request."""

_PIECE = 8 << 20
"""Size in bytes beyond which a request is not extended, since several parallel requests are faster."""

_THREADS = 8


@dataclass
class _Piece:
    """One request: the bytes from `start` to `stop`, which contain the ranges with these indices."""

    start: int
    stop: int
    indices: list[int] = field(default_factory=list)


def read_ranges(
    place: Place, ranges: Sequence[tuple[int, int]], size: int | None = None, *, gap: int = GAP
) -> list[pa.Buffer]:
    """The bytes of each (offset, length), in the order requested.

    On an S3 server, ranges at most `gap` bytes apart share one request and its buffer, and requests run in parallel;
    nothing else is requested from the server. On this machine every range is read separately, without memory mapping:
    with it, a file that shrinks or a failing disk would kill the process without an error.

    Args:
        place: the file.
        ranges: (offset, length), in any order; they may overlap or be empty.
        size: size of the file in bytes, if known; a range beyond it then fails before anything is read.
        gap: maximum distance in bytes between ranges of one request.

    Raises:
        UserError: the file ends before a range does, or storage fails.
        ValueError: a negative offset or length.
    """
    location = locate(place)
    if any(offset < 0 or length < 0 for offset, length in ranges):
        raise ValueError(f"ranges {list(ranges)}: negative")
    end = max((offset + length for offset, length in ranges if length), default=0)
    if size is not None and end > size:
        raise _too_short(location, end)
    if location.is_local:
        return _read_local(location, ranges)
    pieces = _pieces(ranges, gap)
    if len(pieces) <= 1:
        contents = [_get(location, piece) for piece in pieces]
    else:
        with ThreadPoolExecutor(min(len(pieces), _THREADS)) as pool:
            contents = list(pool.map(lambda piece: _get(location, piece), pieces))
    found = [pa.py_buffer(b"")] * len(ranges)
    for piece, content in zip(pieces, contents, strict=True):
        for index in piece.indices:
            offset, length = ranges[index]
            found[index] = content.slice(offset - piece.start, length)
    return found


def _pieces(ranges: Sequence[tuple[int, int]], gap: int) -> list[_Piece]:
    """The requests that contain all non-empty ranges."""
    pieces: list[_Piece] = []
    for index in sorted((index for index, (_, length) in enumerate(ranges) if length), key=lambda index: ranges[index]):
        offset, length = ranges[index]
        last = pieces[-1] if pieces else None
        if last is None or offset > last.stop + gap or (offset >= last.stop and last.stop - last.start >= _PIECE):
            last = _Piece(offset, offset)
            pieces.append(last)
        last.stop = max(last.stop, offset + length)
        last.indices.append(index)
    return pieces


def _read_local(location: Location, ranges: Sequence[tuple[int, int]]) -> list[pa.Buffer]:
    with explained(location.uri, "read"):
        file = os.open(location.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return [_read_at(location, file, offset, length) for offset, length in ranges]
        finally:
            os.close(file)


def _read_at(location: Location, file: int, offset: int, length: int) -> pa.Buffer:
    content = os.pread(file, length, offset)
    while len(content) < length:  # one call reads at most 2 GiB
        more = os.pread(file, length - len(content), offset + len(content))
        if not more:
            raise _too_short(location, offset + length)
        content += more
    return pa.py_buffer(content)


def _get(location: Location, piece: _Piece) -> pa.Buffer:
    with explained(location.uri, "read"):
        try:
            content = read_span(location, piece.start, piece.stop)
        except ClientError as error:
            if error.response["Error"]["Code"] == "InvalidRange":
                raise _too_short(location, piece.stop) from None
            raise
    if content.size != piece.stop - piece.start:
        raise _too_short(location, piece.stop)
    return content


def _too_short(location: Location, end: int) -> UserError:
    return UserError(f"{location.uri}: cannot read: shorter than {end} bytes; restore the file, or write it again")


def read_span(location: Location, start: int, stop: int) -> pa.Buffer:
    """The object's bytes from `start` up to but not including `stop`, or fewer if it ends before. Raises boto3's
    errors."""
    import obstore
    from obstore.exceptions import BaseError

    assert location.s3 is not None
    name = object_name(location)
    try:
        content = pa.py_buffer(obstore.get_range(location.s3.store(name["Bucket"]), name["Key"], start=start, end=stop))
    except (BaseError, OSError, ValueError):  # OSError: no such object; ValueError: no keys
        content = None
    if content is None or content.size != stop - start:
        return pa.py_buffer(read_object(location, (start, stop)))
    return content

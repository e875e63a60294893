"""Reads the members of a ZIP without unpacking or downloading it as a whole: its directory once, each member with one
read."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from restore_dit.data import storage
from restore_dit.data.pastis.remote_file import RemoteFile, SourceUnreachable
from restore_dit.errors import UserError

_HEADER = struct.Struct("<4s22xHH")  # signature, …, length of the name, length of the extra field
_MAX_BYTES = 1 << 30
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class StoredArchive:
    """A ZIP at a local path or on object storage."""

    location: storage.Location

    @property
    def uri(self) -> str:
        """Its URI, for messages."""
        return self.location.uri

    def size(self) -> int:
        """Size of the file in bytes."""
        with storage.open_file(self.location) as file:
            return int(file.size())

    def read_range(self, start: int, stop: int) -> bytes:
        """Bytes `start` up to but not including `stop`; fewer if the file ends before."""
        try:
            return bytes(storage.read_ranges(self.location, [(start, stop - start)])[0])
        except UserError as error:
            # All members are in this one file: if it cannot be read, no individual patch is at fault.
            raise SourceUnreachable(str(error)) from None


@dataclass(frozen=True)
class RemoteArchive:
    """A ZIP on a web server."""

    file: RemoteFile

    @property
    def uri(self) -> str:
        """Its address without secrets."""
        return self.file.shown

    def size(self) -> int:
        """Size of the file in bytes."""
        return self.file.size()

    def read_range(self, start: int, stop: int) -> bytes:
        """Bytes `start` up to but not including `stop`; fewer if the file ends before."""
        try:
            return self.file.read_range(start, stop)
        except UserError as error:
            # For example, a presigned address that has expired.
            raise SourceUnreachable(str(error)) from None


Archive = StoredArchive | RemoteArchive


@dataclass(frozen=True)
class ArchiveMember:
    """A member's position: `span` bytes from `offset` contain its header and its content."""

    archive: Archive
    name: str
    offset: int
    span: int
    compressed_size: int
    size: int
    crc: int
    method: int
    flags: int

    def read(self) -> bytes:
        """The uncompressed content, with one read of the archive.

        Raises:
            UserError: damaged, truncated, encrypted or compressed with an unsupported method.
            SourceUnreachable: the archive can no longer be read.
        """
        return self.unpack(self.archive.read_range(self.offset, self.offset + self.span))

    def unpack(self, raw: bytes | memoryview) -> bytes:
        """The content from the `span` bytes of the archive that begin at `offset`; raises the same errors as `read`."""
        if self.flags & _ENCRYPTED:
            raise UserError(f"{self.name}: encrypted in the archive; use the published archive")
        if self.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(f"{self.name}: compressed with unsupported method {self.method}; compress with deflate")
        if self.size > _MAX_BYTES:
            raise UserError(
                f"{self.name}: unpacks to {self.size} bytes, more than any file of PASTIS-R; fetch it again"
            )
        if len(raw) < _HEADER.size:
            raise UserError(f"{self.name}: cut off in the archive; fetch the archive again")
        signature, name, extra = _HEADER.unpack_from(raw)
        if signature != b"PK\x03\x04":
            raise UserError(f"{self.name}: damaged in the archive (no file header there); fetch the archive again")
        begin = _HEADER.size + name + extra
        packed = memoryview(raw)[begin : begin + self.compressed_size]
        if len(packed) < self.compressed_size:
            raise UserError(f"{self.name}: cut off in the archive; fetch the archive again")
        content = bytes(packed) if self.method == zipfile.ZIP_STORED else self._inflate(packed)
        if len(content) != self.size or zlib.crc32(content) != self.crc:
            raise UserError(f"{self.name}: damaged in the archive (wrong checksum); fetch the archive again")
        return content

    def _inflate(self, packed: memoryview) -> bytes:
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, self.size + 1)
        except zlib.error as error:
            raise UserError(f"{self.name}: damaged in the archive ({error}); fetch the archive again") from None


def read_directory(archive: Archive) -> dict[str, ArchiveMember]:
    """The members by name, from the directory at the archive's end.

    Raises:
        UserError: not a ZIP, or a truncated one.
        SourceUnreachable: the archive cannot be read.
    """
    # Buffered, since zipfile reads a directory in pieces of a few bytes, each of which would be a request.
    stream = io.BufferedReader(_RangeReader(archive.size(), archive.read_range), 1 << 16)
    try:
        with zipfile.ZipFile(stream) as directory:
            entries = sorted(directory.infolist(), key=lambda entry: entry.header_offset)
            ends = [*(entry.header_offset for entry in entries[1:]), directory.start_dir]
        if not entries:
            raise ValueError("it is empty")
        if not 0 <= entries[0].header_offset <= entries[-1].header_offset <= ends[-1]:
            raise ValueError("its directory is damaged: it refers to positions outside the archive")
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{archive.uri}: not a ZIP archive, or one that was cut off ({reason}); fetch it again"
        ) from None
    return {
        entry.filename: ArchiveMember(
            archive=archive,
            name=entry.filename,
            offset=entry.header_offset,
            # A header's length is only stated in the header itself; the span up to the next member includes it.
            span=min(end - entry.header_offset, entry.compress_size + _HEADER.size + 2 * 0xFFFF),
            compressed_size=entry.compress_size,
            size=entry.file_size,
            crc=entry.CRC,
            method=entry.compress_type,
            flags=entry.flag_bits,
        )
        for entry, end in zip(entries, ends, strict=True)
        if not entry.filename.endswith("/") and not entry.filename.startswith("__MACOSX/")
    }


class _RangeReader(io.RawIOBase):
    """The seekable stream that `zipfile` requires, backed by range reads."""

    def __init__(self, size: int, read_range: Callable[[int, int], bytes]) -> None:
        self._size = size
        self._read_range = read_range
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if position < 0:
            raise ValueError("a position before the start")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        stop = min(self._position + len(buffer), self._size)
        if stop <= self._position:
            return 0
        content = self._read_range(self._position, stop)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

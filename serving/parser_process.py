"""Parses untrusted files in child processes.

A crafted NetCDF or GeoTIFF file can crash the libraries that read it, keep them busy forever or exhaust the memory.
`python -m serving.parser_process DESCRIPTOR` therefore forks a child for every connection that it receives through the
socket of this descriptor, one end of a pair whose other end only the service has. The child reads files from its
connection, one after another, each under limits on memory and on time, and answers them.

A message is the length of a JSON header, the header, and the bytes that the header announces. Nothing is pickled.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import socket
import struct
import sys
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from restore_dit.data.exchange import geotiff_archive, netcdf
from restore_dit.data.exchange.limits import SeriesLimits
from restore_dit.errors import TooLarge, UserError
from restore_dit.series import Acquisitions, TileSeries

DECODERS = {"netcdf": netcdf.decode, "geotiff": geotiff_archive.decode}

BYTES_A_VALUE = 40
"""Memory needed to read one value: the file's own representation, an intermediate float64 and the resulting int16."""

BASE_MEMORY = 1 << 30
"""Address space, in bytes, that the process has before it reads anything."""

OPEN_FILES = 64

MAX_FILES = 100
"""Files that one process reads, see `serving.parsing`."""


class Task(BaseModel):
    """A file to parse; its content follows."""

    kind: str
    """A key of `DECODERS`."""
    name: str
    """What messages call the file."""
    size: int
    seconds: int
    """Limit on processor time, and on time."""
    limits: SeriesLimits
    largest: int
    """Bytes of the largest file that may come."""

    def memory(self, size: int) -> int:
        """Address space, in bytes, for reading a file of this many bytes."""
        return BASE_MEMORY + self.limits.values * BYTES_A_VALUE + 4 * size


def write_message(stream: BinaryIO, header: str, *parts: NDArray[Any] | bytes) -> None:
    """Writes a header and what it announces."""
    text = header.encode()
    stream.write(struct.pack("!I", len(text)) + text)
    for part in parts:
        stream.write(part if isinstance(part, bytes) else part.data.cast("B"))
    stream.flush()


def read_header(stream: BinaryIO, longest: int = 1 << 20) -> bytes:
    """The header of the next message.

    Raises:
        EOFError: the other side has closed the connection, or the header is longer than `longest` bytes.
    """
    (length,) = struct.unpack("!I", read_exactly(stream, 4))
    if length > longest:
        raise EOFError
    return read_exactly(stream, length)


def read_exactly(stream: BinaryIO, count: int) -> bytes:
    """Exactly `count` bytes.

    Raises:
        EOFError: the other side has closed the connection.
    """
    content = stream.read(count)
    if len(content) < count:
        raise EOFError
    return content


def series_message(series: TileSeries) -> tuple[str, list[NDArray[Any]]]:
    """A series as the header and arrays from which `serving.parsing.read_series` makes it."""

    def described(one: Acquisitions) -> dict[str, Any]:
        return {"days": one.dates.astype("datetime64[D]").astype(int).tolist(), "bands": one.bands}

    place = series.georeference
    header = {
        "tile_id": series.tile_id,
        "size": series.size,
        "optical": described(series.optical),
        "clouds": series.clouds is not None,
        "radar": {track: described(one) for track, one in series.radar.items()},
        "georeference": None if place is None else [place.crs, place.transform],
        "remarks": series.remarks,
    }
    arrays: list[NDArray[Any]] = [series.optical.values]
    if series.clouds is not None:
        arrays.append(series.clouds)
    arrays += [one.values for one in series.radar.values()]
    return json.dumps(header), [np.ascontiguousarray(one) for one in arrays]


def answer_tasks(stream: BinaryIO) -> None:
    """Says which process this is, then parses until the other side closes the connection, or a file is refused: the
    libraries may be in any state after a damaged one."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    write_message(stream, str(os.getpid()))
    refused = False
    while not refused:
        task = Task.model_validate_json(read_header(stream))
        _limit(task)
        refused = not _answer(stream, task, read_exactly(stream, task.size))
        signal.alarm(0)


def _limit(task: Task) -> None:
    """Sets the limits for one file, below those that hold for the process as long as it lives."""
    resource.setrlimit(resource.RLIMIT_AS, (task.memory(task.size), task.memory(task.largest)))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + task.seconds
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, MAX_FILES * task.seconds + 1))
    signal.alarm(task.seconds)  # kills the process after this much wall-clock time


def _answer(stream: BinaryIO, task: Task, content: bytes) -> bool:
    """Sends the series, or an error message; returns whether it was a series."""
    try:
        series = DECODERS[task.kind](content, task.name, task.limits)
    except UserError as error:
        write_message(stream, json.dumps({"error": str(error), "too_large": isinstance(error, TooLarge)}))
        return False
    except MemoryError:
        write_message(stream, json.dumps({"error": f"{task.name}: needs too much memory to read"}))
        return False
    header, arrays = series_message(series)
    write_message(stream, header, *arrays)
    return True


def main() -> None:
    """Serves until the service closes its end of the socket, which happens however the service ends."""
    service = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a child ended, so none becomes a zombie
    gc.freeze()  # a collection in a child would touch, and thereby copy, the memory shared with this process
    service.send(b"ready")
    while received := socket.recv_fds(service, 1, 1)[1]:
        with socket.socket(fileno=received[0]) as connection:
            if os.fork() == 0:
                service.close()  # otherwise a file that takes over this process could take others' connections
                try:
                    answer_tasks(connection.makefile("rwb"))  # type: ignore[arg-type]
                finally:
                    os._exit(0)


if __name__ == "__main__":
    main()

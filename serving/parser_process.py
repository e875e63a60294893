"""Parses untrusted files in child processes.

A crafted NetCDF or GeoTIFF file can crash the libraries that read it, keep them busy forever or exhaust the memory.
`python -m serving.parser_process SOCKET` therefore listens on a Unix socket and forks a child for every connection. The
child reads files from its connection, one after another, each under limits on memory and on time, and answers them.

A message is the length of a JSON header, the header, and the bytes that the header announces. Nothing is pickled.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import signal
import socketserver
import struct
import sys
import threading
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


class Child(socketserver.StreamRequestHandler):
    """Answers one task after another."""

    def handle(self) -> None:
        """Says which process this is, then parses until the other side closes the connection, or a file is refused:
        the libraries may be in any state after a damaged one."""
        gc.freeze()  # a collection would touch, and thereby copy, the memory shared with the parent
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
        write_message(self.wfile, str(os.getpid()))  # type: ignore[arg-type]
        refused = False
        while not refused:
            task = Task.model_validate_json(read_header(self.rfile))  # type: ignore[arg-type]
            self._limit(task)
            refused = not self._answer(task, read_exactly(self.rfile, task.size))  # type: ignore[arg-type]
            signal.alarm(0)

    def _limit(self, task: Task) -> None:
        """Sets the limits for one file, below those that hold for the process as long as it lives."""
        resource.setrlimit(resource.RLIMIT_AS, (task.memory(task.size), task.memory(task.largest)))
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(used.ru_utime + used.ru_stime) + task.seconds
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, MAX_FILES * task.seconds + 1))
        signal.alarm(task.seconds)  # kills the process after this much wall-clock time

    def _answer(self, task: Task, content: bytes) -> bool:
        """Sends the series, or an error message; returns whether it was a series."""
        try:
            series = DECODERS[task.kind](content, task.name, task.limits)
        except UserError as error:
            told = {"error": str(error), "too_large": isinstance(error, TooLarge)}
            write_message(self.wfile, json.dumps(told))  # type: ignore[arg-type]
            return False
        except MemoryError:
            told = {"error": f"{task.name}: needs too much memory to read"}
            write_message(self.wfile, json.dumps(told))  # type: ignore[arg-type]
            return False
        header, arrays = series_message(series)
        write_message(self.wfile, header, *arrays)  # type: ignore[arg-type]
        return True


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """A server that forks a process for every connection."""

    max_children = 64
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Does nothing: the client sees the connection close and reports the error."""


def main() -> int:
    """Serves until standard input closes, which happens however the parent process ends."""
    path = sys.argv[1]
    os.umask(0o077)
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)  # the libraries report damaged files on standard error
    server = Server(path, Child)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.buffer.read()
    shutil.rmtree(os.path.dirname(path), ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

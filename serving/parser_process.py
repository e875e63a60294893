"""Parses untrusted files, each in a child process of its own.

A crafted NetCDF or GeoTIFF file can crash the libraries that read it, keep them busy forever or exhaust the memory.
`python -m serving.parser_process SOCKET` therefore listens on a Unix socket and forks for every connection. The child
runs under limits on memory and CPU time, reads one request, answers it and exits.

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
from dataclasses import asdict
from typing import Any, BinaryIO

import numpy as np

from restore_dit.data.exchange import geotiff_archive, netcdf
from restore_dit.data.exchange.limits import SeriesLimits, TooLarge
from restore_dit.errors import UserError
from restore_dit.series import Acquisitions, Georeference, TileSeries

DECODERS = {"netcdf": netcdf.decode, "geotiff": geotiff_archive.decode}

BYTES_A_VALUE = 40
"""Memory needed to read one value: the file's own representation, an intermediate float64 and the resulting int16."""

BASE_MEMORY = 1 << 30
"""Address space, in bytes, that the process has before it reads anything."""


def write_message(stream: BinaryIO, header: dict[str, Any], *parts: memoryview | bytes) -> None:
    """Writes a header and the arrays that it announces."""
    text = json.dumps(header).encode()
    stream.write(struct.pack("!I", len(text)) + text)
    for part in parts:
        stream.write(part)
    stream.flush()


def read_header(stream: BinaryIO) -> dict[str, Any]:
    """The header of the next message.

    Raises:
        EOFError: the other side has closed the connection.
    """
    (length,) = struct.unpack("!I", read_exactly(stream, 4))
    return json.loads(read_exactly(stream, length))


def read_exactly(stream: BinaryIO, count: int) -> bytes:
    """Exactly `count` bytes.

    Raises:
        EOFError: the other side has closed the connection.
    """
    content = stream.read(count)
    if len(content) < count:
        raise EOFError
    return content


def series_message(series: TileSeries) -> tuple[dict[str, Any], list[np.ndarray]]:
    """A series as a header and the arrays that it announces."""
    arrays: list[np.ndarray] = []

    def kept(array: np.ndarray) -> dict[str, Any]:
        arrays.append(np.ascontiguousarray(array))
        return {"dtype": array.dtype.str, "shape": array.shape}

    def acquisitions(one: Acquisitions) -> dict[str, Any]:
        days = one.dates.astype("datetime64[D]").astype(np.int64)
        return {"values": kept(one.values), "days": kept(days), "bands": one.bands}

    place = series.georeference
    header = {
        "tile_id": series.tile_id,
        "optical": acquisitions(series.optical),
        "clouds": None if series.clouds is None else kept(series.clouds),
        "radar": {track: acquisitions(one) for track, one in series.radar.items()},
        "georeference": None if place is None else asdict(place),
    }
    return header, arrays


def read_series(header: dict[str, Any], stream: BinaryIO) -> TileSeries:
    """The series of a header, its arrays read from the stream in the header's order."""

    def array(one: dict[str, Any]) -> np.ndarray:
        dtype = np.dtype(one["dtype"])
        content = read_exactly(stream, dtype.itemsize * int(np.prod(one["shape"])))
        return np.frombuffer(content, dtype).reshape(one["shape"])

    def acquisitions(one: dict[str, Any]) -> Acquisitions:
        values, days = array(one["values"]), array(one["days"])
        return Acquisitions(values, days.astype("datetime64[D]"), tuple(one["bands"]))

    place = header["georeference"]
    return TileSeries(
        tile_id=header["tile_id"],
        optical=acquisitions(header["optical"]),
        clouds=None if header["clouds"] is None else array(header["clouds"]),
        radar={track: acquisitions(one) for track, one in header["radar"].items()},
        georeference=None if place is None else Georeference(place["crs"], tuple(place["transform"])),
    )


class Child(socketserver.StreamRequestHandler):
    """Answers one request."""

    def handle(self) -> None:
        """Parses the file and sends the series, or an error message."""
        gc.disable()  # a collection would touch, and thereby copy, the memory shared with the parent
        header = read_header(self.rfile)  # type: ignore[arg-type]
        limits = SeriesLimits(**header["limits"])
        memory = BASE_MEMORY + limits.values * BYTES_A_VALUE + 4 * header["size"]
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        seconds = int(header["seconds"])
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        signal.alarm(seconds)  # kills the process after this much wall-clock time
        content = read_exactly(self.rfile, header["size"])  # type: ignore[arg-type]
        try:
            series = DECODERS[header["kind"]](content, header["name"], limits)
        except UserError as error:
            told = {"error": str(error), "too_large": isinstance(error, TooLarge)}
            write_message(self.wfile, told)  # type: ignore[arg-type]
            return
        except MemoryError:
            write_message(self.wfile, {"error": f"{header['name']}: needs too much memory to read"})  # type: ignore[arg-type]
            return
        answer, arrays = series_message(series)
        write_message(self.wfile, answer, *(array.data.cast("B") for array in arrays))  # type: ignore[arg-type]


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

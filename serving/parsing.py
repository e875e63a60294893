"""Parses uploaded, untrusted files through a few parser processes that wait for work."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import select
import socket
import subprocess
import sys
from typing import Annotated, Any, BinaryIO

import numpy as np
import psutil
from numpy.typing import NDArray
from pydantic import BaseModel, Field, NonNegativeInt

from restore_dit.data.exchange.limits import SeriesLimits
from restore_dit.errors import TooLarge, UserError
from restore_dit.series import Acquisitions, Georeference, TileSeries
from restore_dit.threads import ONE_THREAD
from serving.config import AT_ONCE
from serving.parser_process import MAX_FILES, Task, read_exactly, read_header, write_message

# A file that is read without complaint may still leave something behind in its process: memory that a library never
# frees, a changed global setting, or, if it exploits a bug, code that waits for the next caller's file. So no process
# reads more than `MAX_FILES` files, nor another one once it has grown to `MAX_RESIDENT`, and none that has refused a
# file reads another. This side counts and measures, because a process that a file has taken over would not.
MAX_RESIDENT = 512 << 20
"""Bytes of memory; a process that has read a small series takes 200 MB, most of it shared with the others."""


class _Sensor(BaseModel):
    days: list[Annotated[int, Field(gt=-(10**6), lt=10**6)]]
    """Since 1970."""
    bands: list[str]


class _Answer(BaseModel):
    """A parsed series: `optical` int16, `clouds` uint8 and `radar` int16 follow, in this order; or an error."""

    error: str | None = None
    too_large: bool = False
    tile_id: str = ""
    size: tuple[NonNegativeInt, NonNegativeInt] = (0, 0)
    optical: _Sensor = _Sensor(days=[], bands=[])
    clouds: bool = False
    radar: dict[str, _Sensor] = {}
    georeference: tuple[str, tuple[float, float, float, float, float, float]] | None = None
    remarks: Annotated[list[Annotated[str, Field(max_length=2000)]], Field(max_length=10)] = []


class _Child:
    """A parser process, ready for its first file, forked by the parent at the other end of `parent`."""

    def __init__(self, parent: socket.socket) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(parent, [b"\0"], [theirs.fileno()])
        self._stream: BinaryIO = self._socket.makefile("rwb")  # type: ignore[assignment]
        self._process = psutil.Process(int(read_header(self._stream)))
        self._files = 0

    def parse(self, task: Task, content: bytes) -> TileSeries:
        """The series in a file.

        Raises:
            UserError: the process refuses the file.
            OSError, EOFError, ValueError: it has ended, or answers nonsense.
        """
        self._files += 1
        with contextlib.suppress(BrokenPipeError):  # it may answer before it has read everything
            write_message(self._stream, task.model_dump_json(), content)
        answer = _Answer.model_validate_json(read_header(self._stream))
        if answer.error is not None:
            raise (TooLarge if answer.too_large else UserError)(answer.error)
        return read_series(answer, self._stream, task.limits)

    @property
    def fit(self) -> bool:
        """Whether it may read another file. One that has ended, or speaks unasked, may not."""
        if self._files >= MAX_FILES or select.select([self._socket], [], [], 0)[0]:
            return False
        return self._process.memory_info().rss < MAX_RESIDENT

    def end(self) -> None:
        """Kills the process, whatever it is doing."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.kill()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # a thread that still waits for an answer gets none
        self._socket.close()


def read_series(answer: _Answer, stream: BinaryIO, limits: SeriesLimits) -> TileSeries:
    """The series that an answer announces. Its arrays come as plain bytes, whose types and number are settled here.

    Raises:
        ValueError: what it announces is not a series.
        TooLarge: it exceeds the limits.
        EOFError: the other side has closed the connection.
    """
    height, width = answer.size
    limits.require_tracks(answer.tile_id, len(answer.radar))

    def array(dtype: Any, *shape: int) -> NDArray[Any]:
        content = read_exactly(stream, np.dtype(dtype).itemsize * math.prod(shape))
        return np.frombuffer(content, dtype).reshape(shape)

    def acquisitions(one: _Sensor) -> Acquisitions:
        limits.require(answer.tile_id, len(one.days), height, width, len(one.bands))
        values = array(np.int16, len(one.days), len(one.bands), height, width)
        return Acquisitions(values, np.array(one.days, "datetime64[D]"), tuple(one.bands))

    optical = acquisitions(answer.optical)
    return TileSeries(
        tile_id=answer.tile_id,
        optical=optical,
        clouds=array(np.uint8, len(optical), height, width) if answer.clouds else None,
        radar={track: acquisitions(one) for track, one in answer.radar.items()},
        georeference=None if answer.georeference is None else Georeference(*answer.georeference),
        remarks=tuple(answer.remarks),
    )


class Parser:
    """A few parser processes, forked on first use from a common parent that has loaded the libraries, and replaced
    when they end, hang or are worn.

    Args:
        limits: limits on the size of a series.
        seconds: time limit for parsing one file.
        largest: size of the largest file, in bytes.
        at_once: maximum number of files parsed concurrently; others wait.
    """

    def __init__(
        self, limits: SeriesLimits, seconds: int = 60, largest: int = 512_000_000, at_once: int = AT_ONCE
    ) -> None:
        self.limits, self.seconds, self.largest = limits, seconds, largest
        self._parent: subprocess.Popen[bytes] | None = None
        self._to_parent: socket.socket
        self._idle: list[_Child] = []
        self._starting = asyncio.Lock()
        self._room = asyncio.Semaphore(at_once)

    async def parse(self, content: bytes, kind: str, name: str) -> TileSeries:
        """The series in a file; `kind` is a key of `DECODERS`, and `name` is what messages call the file.

        Raises:
            UserError: the file is invalid, takes too much time or memory to read, or crashes the parser.
        """
        # A caller that is cancelled leaves its file being read, so its slot is only freed when that ends.
        return await asyncio.shield(asyncio.ensure_future(self._parse(content, kind, name)))

    async def _parse(self, content: bytes, kind: str, name: str) -> TileSeries:
        task = Task(
            kind=kind, name=name, size=len(content), seconds=self.seconds, limits=self.limits, largest=self.largest
        )
        async with self._room:
            child = None
            try:
                child = await self._child()
                async with asyncio.timeout(self.seconds + 5):
                    series = await asyncio.to_thread(child.parse, task, content)
                self._idle.append(child)
                child = None
                return series
            except (OSError, EOFError, ValueError, psutil.Error):  # also a time-out
                fault = f"{name}: cannot be read: it is damaged, or takes too much time or memory"
                raise UserError(fault) from None
            finally:
                if child is not None:
                    child.end()

    async def _child(self) -> _Child:
        while self._idle:
            child = self._idle.pop()
            if child.fit:
                return child
            child.end()
        async with self._starting:
            if self._parent is None or self._parent.poll() is not None:
                self._parent, self._to_parent = await asyncio.to_thread(self._start)
        return await asyncio.to_thread(_Child, self._to_parent)

    def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "serving.parser_process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # the libraries report damaged files there
                env=_without_secrets() | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        if not ours.recv(16):
            raise RuntimeError("the parser process does not start")
        return process, ours

    def close(self) -> None:
        """Stops the processes."""
        while self._idle:
            self._idle.pop().end()
        if self._parent is not None:
            self._to_parent.close()
            self._parent.wait(timeout=10)


def _without_secrets() -> dict[str, str]:
    """The environment without credentials, which a file that compromises the parser could otherwise read."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_", "RESTORE_DIT_"))}

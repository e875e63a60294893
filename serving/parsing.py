"""Parses uploaded, untrusted files through a separate parser process."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from restore_dit.data.exchange.limits import SeriesLimits, TooLarge
from restore_dit.errors import UserError
from restore_dit.series import TileSeries
from restore_dit.threads import ONE_THREAD
from serving.parser_process import read_series

FOLDER_PREFIX = "restore-dit-parser-"
"""Prefix of the temporary folders that hold the sockets of parser processes."""


class Parser:
    """A client of a parser process, which starts on first use and is restarted if it dies.

    Args:
        limits: limits on the size of a series.
        seconds: time limit for parsing one file.
        at_once: maximum number of files parsed concurrently; others wait.
    """

    def __init__(self, limits: SeriesLimits, seconds: int = 60, at_once: int = 4) -> None:
        self.limits, self.seconds = limits, seconds
        self._socket = ""
        self._process: subprocess.Popen[str] | None = None
        self._starting = asyncio.Lock()
        self._room = asyncio.Semaphore(at_once)

    async def parse(self, content: bytes, kind: str, name: str) -> TileSeries:
        """The series in a file; `kind` is a key of `DECODERS`, and `name` is what messages call the file.

        Raises:
            UserError: the file is invalid, takes too much time or memory to read, or crashes the parser.
        """
        # A caller that is cancelled leaves its child process running, so its slot is only freed when the child ends.
        return await asyncio.shield(asyncio.ensure_future(self._parse(content, kind, name)))

    async def _parse(self, content: bytes, kind: str, name: str) -> TileSeries:
        async with self._room:
            await self._require_process()
            try:
                async with asyncio.timeout(self.seconds + 5):
                    header, rest = await self._ask(content, kind, name)
                if "error" not in header:
                    return await asyncio.to_thread(read_series, header, io.BytesIO(rest))
            except (TimeoutError, OSError, asyncio.IncompleteReadError, EOFError):
                header = {"error": f"{name}: cannot be read: it is damaged, or takes too much time or memory"}
        raise (TooLarge if header.get("too_large") else UserError)(header["error"])

    async def _ask(self, content: bytes, kind: str, name: str) -> tuple[dict, bytes]:
        reader, writer = await asyncio.open_unix_connection(self._socket)
        try:
            header = {
                "kind": kind, "name": name, "size": len(content), "seconds": self.seconds, "limits": asdict(self.limits)
            }  # fmt: skip
            text = json.dumps(header).encode()
            writer.write(struct.pack("!I", len(text)) + text)
            writer.write(content)
            with contextlib.suppress(ConnectionError):  # the child may answer before it has read everything
                await writer.drain()
            (length,) = struct.unpack("!I", await reader.readexactly(4))
            answer = json.loads(await reader.readexactly(length))
            return answer, await reader.read() if "error" not in answer else b""
        finally:
            writer.close()

    async def _require_process(self) -> None:
        async with self._starting:
            if self._process is None or self._process.poll() is not None:
                self._process, self._socket = await asyncio.to_thread(self._start)

    def _start(self) -> tuple[subprocess.Popen[str], str]:
        socket = str(Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX)) / "socket")  # the process removes it
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.parser_process", socket],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=_without_secrets() | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            process.kill()
            raise RuntimeError("the parser process does not start")
        return process, socket

    def close(self) -> None:
        """Stops the parser process."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(timeout=10)


def _without_secrets() -> dict[str, str]:
    """The environment without credentials, which a file that compromises the parser could otherwise read."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_", "RESTORE_DIT_"))}

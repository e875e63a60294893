"""Request bodies: received within the limits on size and time, without being held in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from tempfile import SpooledTemporaryFile
from typing import Literal

from fastapi import Request
from starlette.requests import ClientDisconnect

from serving.config import LimitsConfig
from serving.routes.interface import problem

Kind = Literal["netcdf", "geotiff", "uri"]

KINDS: dict[str, Kind | None] = {
    "application/x-netcdf": "netcdf",
    "application/netcdf": "netcdf",
    "application/x-hdf5": "netcdf",
    "application/zip": "geotiff",
    "application/json": "uri",
    "application/octet-stream": None,
    "": None,
}
"""Content type → kind of input; None: inferred from the first bytes."""

NAMES: dict[Kind, str] = {"netcdf": "upload.nc", "geotiff": "upload.zip", "uri": "uri"}
"""What messages call an input of each kind."""

MAX_JSON = 10_000
"""Maximum size, in bytes, of a JSON body that names a series."""

IN_MEMORY = 1 << 20
"""Bytes of an upload that are held in memory; a larger one goes to a temporary file."""

PASS_SECONDS = 10
"""How long a refused upload is read and discarded."""


@dataclass(frozen=True)
class Upload:
    """A request body that has been received."""

    kind: Kind
    content: SpooledTemporaryFile[bytes]
    digest: str
    """SHA-256 of the content."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return NAMES[self.kind]


@asynccontextmanager
async def received(request: Request, limits: LimitsConfig) -> AsyncIterator[Upload]:
    """The request body, until the block ends.

    Raises:
        HTTPException: 400 without a body, 408 or 413 beyond the limits, 415 for any other content type.
    """
    stated = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if stated not in KINDS:
        raise problem(415, "send application/x-netcdf, application/zip or application/json")
    kind = KINDS[stated]
    most = MAX_JSON if kind == "uri" else limits.body_megabytes * 1_000_000
    too_large = problem(413, f"larger than {most / 1e6:g} MB")
    if int(request.headers.get("content-length") or 0) > most:
        raise too_large
    with SpooledTemporaryFile(IN_MEMORY) as content:
        digest = sha256()
        try:
            async with asyncio.timeout(limits.upload_seconds):
                async for chunk in request.stream():
                    content.write(chunk)
                    digest.update(chunk)
                    if content.tell() > most:
                        raise too_large
        except TimeoutError:
            raise problem(408, f"the upload took longer than {limits.upload_seconds} s") from None
        if not content.tell():
            raise problem(400, "empty body: send a NetCDF file, a ZIP archive or a JSON object")
        content.seek(0)
        kind = kind or ("geotiff" if content.read(2) == b"PK" else "netcdf")
        yield Upload(kind, content, digest.hexdigest())


async def drain(request: Request) -> None:
    """Reads and discards the body, because a client that is refused while still sending may never see the response."""
    with suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(PASS_SECONDS):
            async for _ in request.stream():
                pass

"""A file on a web server, read by ranges with retries, and the error for a source that is unavailable as a whole."""

from __future__ import annotations

import http.client
import random
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from restore_dit.config.ingestion import TransferConfig
from restore_dit.data import storage
from restore_dit.data.storage.addresses import retry_after, web_opener
from restore_dit.errors import UserError

_CHUNK = 1 << 18
_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_ADVICE = {
    401: "the server requires a login, which this program does not support",
    403: "the server denies access: check the address and its permissions",
    404: "not found: check the address",
    410: "the file no longer exists there: check the address",
    416: "the file is shorter than its directory says: it was cut off or replaced; check the address",
}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)$")


class SourceUnreachable(UserError):
    """The source as a whole can no longer be read: no individual patch is at fault, and the ingest must stop."""


class _Passing(Exception):
    """A transient failure, worth retrying."""


class _Limited(_Passing):
    """The server limits requests and asks to retry after `wait` seconds."""

    def __init__(self, why: str, wait: float) -> None:
        super().__init__(f"{why}, server asks to wait {wait:.0f} s")
        self.wait = wait


@dataclass(frozen=True)
class RemoteFile:
    """A file at an `http://` or `https://` address. Can be pickled; every request uses its own connection."""

    url: str = field(repr=False)  # a presigned address grants access
    transfer: TransferConfig
    sleep: Callable[[float], object] = field(default=time.sleep, compare=False)

    def __post_init__(self) -> None:
        try:
            address = urlsplit(self.url)
        except ValueError:
            raise UserError(f"{self.shown}: not a valid address") from None
        if address.username or address.password:
            # Not echoed, since the message may end up in a log.
            raise UserError(f"{address.scheme}://…@{address.hostname}: the address must not contain credentials")

    @property
    def shown(self) -> str:
        """The address without its query, for messages that end up in logs and in the store."""
        return storage.without_secrets(self.url)

    def size(self) -> int:
        """Size of the file in bytes.

        Raises:
            UserError: the server does not have it, or does not serve ranges.
            SourceUnreachable: the server does not respond.
        """
        return self._read(0, 1)[1]

    def read_range(self, start: int, stop: int) -> bytes:
        """Bytes `start` up to but not including `stop`; fewer if the file ends before.

        Raises:
            UserError: the server does not have the file, or does not serve ranges.
            SourceUnreachable: the server failed `attempts` times in a row without sending anything.
        """
        return self._read(start, stop)[0]

    def _read(self, start: int, stop: int) -> tuple[bytes, int]:
        """The bytes, and the size of the whole file."""
        received = bytearray()
        total: int | None = None
        failures, waited = 0, 0.0
        while total is None or start + len(received) < min(stop, total):
            before = len(received)
            try:
                total = self._request(start + before, stop, received)
                if len(received) == before:
                    raise _Passing("a response without content")
            except (_Passing, OSError, http.client.HTTPException) as error:
                _raise_if_final(self.shown, error)
                # Bytes received before the connection broke are kept; the next request continues after them.
                if len(received) > before:
                    failures, waited = 0, 0.0
                # A server that names a time is not failing: waiting for it does not count as a failed attempt.
                if isinstance(error, _Limited) and waited + error.wait <= self.transfer.longest_limit:
                    waited += error.wait
                    self.sleep(error.wait)
                    continue
                failures += 1
                if failures >= self.transfer.attempts or isinstance(error, _Limited):
                    raise SourceUnreachable(
                        f"{self.shown}: gave up after {failures} failures in a row ({_reason(error)}); check the "
                        "network and the server, then run the same command again: finished work is kept"
                    ) from None
                self.sleep(self._wait(failures))
            else:
                failures, waited = 0, 0.0
        return bytes(received), total

    def _request(self, start: int, stop: int, received: bytearray) -> int:
        """Sends one request, appends its body to `received` as it arrives, and returns the size of the whole file."""
        request = urllib.request.Request(
            self.url,
            headers={
                "Range": f"bytes={start}-{stop - 1}",
                "Accept-Encoding": "identity",
                "User-Agent": "restore-dit",
            },
        )
        try:
            answer = web_opener(self.url).open(request, timeout=self.transfer.timeout)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in _PASSING_STATUS:
                    asked = retry_after(error.headers.get("Retry-After"))
                    raise (_Limited(f"HTTP {error.code}", asked) if asked else _Passing(f"HTTP {error.code}")) from None
                advice = _ADVICE.get(error.code, "check the address")
                raise UserError(f"{self.shown}: HTTP {error.code}: {advice}") from None
        with answer:
            found = _CONTENT_RANGE.match(answer.headers.get("Content-Range") or "")
            if answer.status != 206 or found is None:
                raise UserError(
                    f"{self.shown}: the server does not serve parts of a file (byte ranges): download the archive and "
                    "specify its path"
                )
            # Some caches answer with another range; its bytes would fit the length, but not the place.
            if int(found[1]) != start:
                raise _Passing(f"bytes from {found[1]} instead of {start}")
            limit = len(received) + int(found[2]) - start + 1
            while len(received) < limit:
                chunk = answer.read1(min(_CHUNK, limit - len(received)))
                if not chunk:
                    raise _Passing("the connection broke off")
                received += chunk
            return int(found[3])

    def _wait(self, failures: int) -> float:
        doubled = self.transfer.first_wait * 2 ** (failures - 1) * random.uniform(0.75, 1.25)
        return min(doubled, self.transfer.longest_wait)


def _raise_if_final(shown: str, error: Exception) -> None:
    """Raises `UserError` for connection failures that retrying cannot fix."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        raise UserError(f"{shown}: the server's certificate is not trusted ({cause.verify_message})") from None
    if isinstance(cause, http.client.InvalidURL | UnicodeError):
        raise UserError(f"{shown}: not a valid address") from None


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join((str(cause) or type(cause).__name__).split())[:200]

"""A job's log as it grows, until the job ends: over connections that drop, from where the last one left off."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

import aiohttp
from ray.job_submission import JobDetails

from jobs.submission.client import ClusterClient, Unreachable
from restore_dit.errors import UserError

SECONDS_OF_SILENCE = 120.0
"""After which the connection is made anew: a quiet job and a dead connection look the same."""

SECONDS_TO_RECONNECT = 600.0
"""For which a cluster may be out of reach before following ends. The job knows nothing of it."""

SECONDS_BETWEEN_ATTEMPTS = 2.0
LINES_KEPT = 200


@dataclass
class Followed:
    """What was seen of a log."""

    write: Callable[[str], None]
    characters: int = 0
    """Written so far."""

    def __post_init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._begun = ""

    def add(self, text: str) -> None:
        """Writes a piece."""
        self.write(text)
        self.characters += len(text)
        *whole, self._begun = (self._begun + text).split("\n")
        self._lines.extend(whole)

    def last_lines(self) -> list[str]:
        """The end of the log."""
        return [*self._lines, self._begun] if self._begun else list(self._lines)


def follow(
    client: ClusterClient, job_id: str, followed: Followed, say: Callable[[str], None] = lambda line: None
) -> JobDetails:
    """Writes the log until the job ends; what the job became.

    Args:
        say: is told when the connection is lost, and when it is back.

    Raises:
        UserError: no such job, or the cluster stayed out of reach.
    """
    lost_since: float | None = None
    while True:
        try:
            asyncio.run(_stream(client, job_id, followed))
            details = client.job(job_id)
            if lost_since is not None:
                say("connected again")
            lost_since = None
            if details.status.is_terminal():
                _add_rest(client, job_id, followed)
                return details
        except (Unreachable, aiohttp.ClientError, RuntimeError, OSError) as error:
            now = time.monotonic()
            if lost_since is None:
                lost_since = now
                say("the connection is lost; trying again")
            elif now - lost_since > SECONDS_TO_RECONNECT:
                raise UserError(
                    f"{client.target.url}: out of reach for {SECONDS_TO_RECONNECT / 60:.0f} min: {error}"
                ) from None
        time.sleep(SECONDS_BETWEEN_ATTEMPTS if lost_since is not None else 0.2)


async def _stream(client: ClusterClient, job_id: str, followed: Followed) -> None:
    """What comes over one connection, which begins at the log's beginning."""
    seen = 0
    async with aclosing(client.log_as_it_grows(job_id)) as pieces:  # type: ignore[type-var]
        while True:
            try:
                text = await asyncio.wait_for(anext(pieces), SECONDS_OF_SILENCE)
            except (StopAsyncIteration, TimeoutError):
                return
            new = text[max(followed.characters - seen, 0) :]
            seen += len(text)
            if new:
                followed.add(new)


def _add_rest(client: ClusterClient, job_id: str, followed: Followed) -> None:
    """What was written after the last piece came."""
    rest = client.log(job_id)[followed.characters :]
    if rest:
        followed.add(rest)

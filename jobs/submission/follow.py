"""A job's log as it grows, until the job ends: over connections that drop, from where the last one left off."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass

import aiohttp
from ray.job_submission import JobDetails, JobStatus

from jobs.submission.client import ClusterClient, Unreachable
from restore_dit.errors import UserError

SECONDS_OF_SILENCE = 120.0
"""After which the connection is made anew: a quiet job and a dead connection look the same."""

SECONDS_TO_BEGIN = 20.0
"""After which it is said what a job waits for."""

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
        say: is told what the job waits for, when the cluster is out of reach, and when it is back.

    Raises:
        UserError: no such job, or the cluster stayed out of reach.
    """
    lost_since: float | None = None
    waiting = False
    while True:
        # A stream that breaks off, or that a server in between does not let through, is made up for below.
        with suppress(aiohttp.ClientError, RuntimeError, OSError):
            asyncio.run(_stream(client, job_id, followed))
        try:
            details = client.job(job_id)
            _add_rest(client, job_id, followed)
        except Unreachable as error:
            now = time.monotonic()
            if lost_since is None:
                lost_since = now
                say("the connection is lost; trying again")
            elif now - lost_since > SECONDS_TO_RECONNECT:
                minutes = SECONDS_TO_RECONNECT / 60
                raise UserError(f"{client.target.url}: out of reach for {minutes:.0f} min: {error}") from None
        else:
            if lost_since is not None:
                say("connected again")
            lost_since = None
            if details.status.is_terminal():
                return details
            if details.status == JobStatus.PENDING and not waiting:
                waiting = True
                say(str(details.message))  # what it may wait for, in Ray's words
        time.sleep(SECONDS_BETWEEN_ATTEMPTS)


async def _stream(client: ClusterClient, job_id: str, followed: Followed) -> None:
    """What comes over one connection, which begins at the log's beginning."""
    seen = 0
    patience = SECONDS_OF_SILENCE if followed.characters else SECONDS_TO_BEGIN
    async with aclosing(client.log_as_it_grows(job_id)) as pieces:  # type: ignore[type-var]
        while True:
            try:
                text = await asyncio.wait_for(anext(pieces), patience)
            except (StopAsyncIteration, TimeoutError):
                return
            new = text[max(followed.characters - seen, 0) :]
            seen += len(text)
            patience = SECONDS_OF_SILENCE
            if new:
                followed.add(new)


def _add_rest(client: ClusterClient, job_id: str, followed: Followed) -> None:
    """What did not come as a stream. Called once the job's status is known: if it has ended, nothing is left out."""
    rest = client.log(job_id)[followed.characters :]
    if rest:
        followed.add(rest)

"""Follows a job's log until the job ends, and resumes it where it left off when a connection drops; and says how the
job ended, by an exit status and a message."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

import aiohttp
from ray.job_submission import JobDetails, JobStatus

from jobs.submission.client import ClusterClient, Unreachable
from restore_dit.errors import UserError

SECONDS_OF_SILENCE = 120.0
"""Silence after which the connection is renewed, because a quiet job looks the same as a dead connection."""

SECONDS_TO_BEGIN = 20.0
"""Silence at the start after which the user is told what the job waits for."""

SECONDS_TO_RECONNECT = 600.0
"""How long the cluster may be unreachable before following ends. The job is not affected."""

SECONDS_BETWEEN_ATTEMPTS = 2.0
LINES_KEPT = 200


@dataclass
class Followed:
    """The part of a log that has been received."""

    write: Callable[[str], None]
    characters: int = 0
    """Number of characters written so far."""

    def __post_init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._partial = ""

    def add(self, text: str) -> None:
        """Writes a piece of the log."""
        self.write(text)
        self.characters += len(text)
        *whole, self._partial = (self._partial + text).split("\n")
        self._lines.extend(whole)

    def last_lines(self) -> list[str]:
        """The last lines of the log, at most `LINES_KEPT` complete ones."""
        return [*self._lines, self._partial] if self._partial else list(self._lines)


def follow(
    client: ClusterClient, job_id: str, followed: Followed, say: Callable[[str], None] = lambda line: None
) -> JobDetails:
    """Writes the log until the job ends and returns the job's final details.

    Args:
        client: the cluster.
        job_id: the job.
        followed: receives the log.
        say: receives messages about what the job waits for, and about a lost and restored connection.

    Raises:
        UserError: no such job, or the cluster stayed unreachable.
    """
    lost_since: float | None = None
    waiting = False
    while True:
        # If the stream breaks off, or a proxy does not let it through, `_add_rest` fetches what is missing.
        with suppress(aiohttp.ClientError, RuntimeError, OSError):
            asyncio.run(_stream(client, job_id, followed))
        try:
            details = client.job(job_id)
            # After the status: what the job printed before it ended is then in the log that is read.
            _add_rest(client, job_id, followed)
        except Unreachable as error:
            now = time.monotonic()
            if lost_since is None:
                lost_since = now
                say("connection lost; retrying")
            elif now - lost_since > SECONDS_TO_RECONNECT:
                minutes = SECONDS_TO_RECONNECT / 60
                raise UserError(f"{client.target.url}: unreachable for {minutes:.0f} min: {error}") from None
        else:
            if lost_since is not None:
                say("reconnected")
            lost_since = None
            if details.status.is_terminal():
                return details
            if details.status == JobStatus.PENDING and not waiting:
                waiting = True
                say(str(details.message))  # Ray's explanation of what the job may be waiting for
        time.sleep(SECONDS_BETWEEN_ATTEMPTS)


async def _stream(client: ClusterClient, job_id: str, followed: Followed) -> None:
    """Adds what one connection delivers. Each connection starts from the beginning of the log."""
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
    """Adds what the stream missed. Called after the job's status is read, so the log of an ended job is complete."""
    rest = client.log(job_id)[followed.characters :]
    if rest:
        followed.add(rest)


STOPPED = 130
"""Exit status of a stopped job, the same as after Ctrl-C."""

_PASSED_ON = (1, 2, STOPPED)
_OWN_ERROR = re.compile(r"^python -m jobs\.\w+: error: (.*)")
_KILLED = (-9, 137)
_NOT_FOUND = 127
_SUPERVISOR = "JOB_SUPERVISOR_ACTOR_"
"""Prefix of Ray's error types for the job's supervisor process, whose death also ends the job."""
_REASON_FIRST = (f"{_SUPERVISOR}DIED", f"{_SUPERVISOR}UNKNOWN_FAILURE")
"""Error types whose message starts with the reason; other messages end with it."""


@dataclass(frozen=True)
class Outcome:
    """The end of a job."""

    status: int
    """Exit status for the submitting command."""
    text: str


def outcome(details: JobDetails, last_lines: Sequence[str]) -> Outcome:
    """The outcome of a finished job. Its error message is taken from the last lines of its log."""
    if details.status == JobStatus.SUCCEEDED:
        return Outcome(0, "succeeded")
    if details.status == JobStatus.STOPPED:
        return Outcome(STOPPED, "stopped")
    code = details.driver_exit_code
    if code is None:
        error, lines = details.error_type or "", str(details.message or "").splitlines()
        reason = _last(lines[::-1] if error in _REASON_FIRST else lines)
        if details.driver_node_id and error.startswith(_SUPERVISOR):
            return Outcome(
                1,
                "was lost while running: its node is gone, or its supervisor process was killed; submit it again to "
                f"resume from what is saved ({reason})",
            )
        return Outcome(1, f"failed before it started: {reason}")
    status = code if code in _PASSED_ON else 1
    return Outcome(status, f"failed with exit status {code}: {_why(code, last_lines)}")


def _why(code: int, last_lines: Sequence[str]) -> str:
    """The job's own error message; without one, the best explanation of its exit status."""
    for line in reversed(last_lines):
        if own := _OWN_ERROR.match(line):
            return own[1]
    if code in _KILLED:
        return "it was killed; was its node out of memory?"
    if code == _NOT_FOUND:
        return "there is no `python` on the PATH of the cluster's head"
    last = _last(last_lines)
    if last.startswith("ModuleNotFoundError"):
        return f"{last}: the cluster's nodes lack a dependency of this project"
    return last


def _last(lines: Sequence[str]) -> str:
    filled = [line.strip() for line in lines if line.strip()]
    return filled[-1] if filled else "the reason is unknown"

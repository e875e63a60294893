"""How a job ended: an exit status and a message."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ray.job_submission import JobDetails, JobStatus

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

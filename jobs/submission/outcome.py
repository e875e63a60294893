"""How a job ended, as an exit status and a sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ray.job_submission import JobDetails, JobStatus

STOPPED = 130
"""Exit status, as after Ctrl-C."""

_PASSED_ON = (1, 2, STOPPED)
_OWN_ERROR = re.compile(r"^jobs\.\w+: error: (.*)")
_KILLED = (-9, 137)
_NOT_FOUND = 127
_KEEPER = "JOB_SUPERVISOR_ACTOR_"
"""What Ray's names for failures of the process beside the job's own begin with. Its loss ends both."""
_FROM_OUTSIDE = (f"{_KEEPER}DIED", f"{_KEEPER}UNKNOWN_FAILURE")
"""Those whose message begins with what happened; others end with it."""


@dataclass(frozen=True)
class Outcome:
    """The end of a job."""

    status: int
    """Exit status for whoever submitted it."""
    text: str


def outcome(details: JobDetails, last_lines: Sequence[str]) -> Outcome:
    """What a finished job came to; `last_lines` of its log hold its own words."""
    if details.status == JobStatus.SUCCEEDED:
        return Outcome(0, "succeeded")
    if details.status == JobStatus.STOPPED:
        return Outcome(STOPPED, "stopped")
    code = details.driver_exit_code
    if code is None:
        error, lines = details.error_type or "", str(details.message or "").splitlines()
        reason = _last(lines[::-1] if error in _FROM_OUTSIDE else lines)
        if details.driver_node_id and error.startswith(_KEEPER):
            return Outcome(
                1,
                "was lost while it ran: its node is gone, or the process that keeps it there was killed; submit it "
                f"again, it goes on from what is saved ({reason})",
            )
        return Outcome(1, f"failed before it began: {reason}")
    status = code if code in _PASSED_ON else 1
    return Outcome(status, f"failed with exit status {code}: {_why(code, last_lines)}")


def _why(code: int, last_lines: Sequence[str]) -> str:
    """The job's own error line; else what is known otherwise."""
    for line in reversed(last_lines):
        if own := _OWN_ERROR.match(line):
            return own[1]
    if code in _KILLED:
        return "it was killed; was its node out of memory?"
    if code == _NOT_FOUND:
        return "the cluster's head has no `python` on its PATH"
    last = _last(last_lines)
    if last.startswith("ModuleNotFoundError"):
        return f"{last}: the cluster's nodes lack a dependency of this project"
    return last


def _last(lines: Sequence[str]) -> str:
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else "nothing is known of why"

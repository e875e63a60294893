"""What of the workers' output reaches a job's own: errors with their tracebacks, and what the autoscaler does.

Ray forwards every line of every process, its own talk included; all of it stays in the cluster's log files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

TRACEBACK = "Traceback (most recent call last):"

_ERROR = re.compile(r"^(\S+ )*(ERROR|CRITICAL|FATAL)\b|^[\w.]*(Error|Exception|Exit|Interrupt)(:|$)|^Fatal ")
"""A line that is one: by its level, or as Python ends a traceback."""

_JOINT = re.compile(r"^(The above exception was the direct cause|During handling of the above exception)|^$")
"""What stands between the tracebacks of one error."""

_BOOKKEEPING = re.compile(r"^Unhandled error .*_StatsActor")
"""Ray Data's own bookkeeping, whose process goes with the training that began it while another still reports to it."""

_NAMED = ("autoscaler", "raylet")
"""Senders whose every line counts: nodes that come and go, workers killed for memory."""


class WorkerLogFilter:
    """Keeps what matters of the lines that processes of a cluster write; knows which of them are within a traceback."""

    def __init__(self) -> None:
        self._within: set[tuple[Any, Any]] = set()
        self._bookkeeping: set[tuple[Any, Any]] = set()

    def kept(self, sender: tuple[Any, Any], lines: list[str]) -> Iterator[str]:
        """The lines of a process that matter; a traceback may go on in its next lines. `sender`: node and process."""
        for line in lines:
            if _BOOKKEEPING.match(line):
                self._bookkeeping.add(sender)
            elif sender in self._bookkeeping:
                if _ERROR.match(line):
                    self._bookkeeping.discard(sender)
            elif TRACEBACK in line:
                self._within.add(sender)
                yield line
            elif sender in self._within:
                yield line
                if not line.startswith((" ", "\t")) and not _JOINT.match(line):
                    self._within.discard(sender)
            elif _ERROR.match(line) or sender[1] in _NAMED:
                yield line


def forward_errors_only() -> None:
    """Puts the filter before Ray's own printing of the workers' output. To be called once Ray is connected."""
    from ray._private.ray_logging import global_worker_stdstream_dispatcher
    from ray._private.worker import print_to_stdstream

    lines = WorkerLogFilter()

    def forward(data: dict[str, Any]) -> None:
        kept = list(lines.kept((data.get("ip"), data.get("pid")), data["lines"]))
        if kept:
            print_to_stdstream({**data, "lines": kept}, False)

    global_worker_stdstream_dispatcher.remove_handler("ray_print_logs")
    global_worker_stdstream_dispatcher.add_handler("ray_print_logs", forward)

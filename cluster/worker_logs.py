"""Filters what of the workers' output is forwarded to a job's own: errors with tracebacks, and autoscaler messages.

By default, Ray forwards every line of every process, including its own messages. The cluster's log files keep them all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

TRACEBACK = "Traceback (most recent call last):"

_ERROR = re.compile(r"^(\S+ )*(ERROR|CRITICAL|FATAL)\b|^[\w.]*(Error|Exception|Exit|Interrupt)(:|$)|^Fatal ")
"""A line that reports an error: by its log level, or as the last line of a Python traceback."""

_JOINT = re.compile(r"^(The above exception was the direct cause|During handling of the above exception)|^$")
"""A line between the tracebacks of chained exceptions."""

_BOOKKEEPING = re.compile(r"^Unhandled error .*_StatsActor")
"""An error about Ray Data's statistics actor, which ends with the training that started it but may still be in use."""

_NAMED = ("autoscaler", "raylet")
"""Senders whose lines are all kept: they report nodes that join and leave, and workers killed for lack of memory."""


class WorkerLogFilter:
    """Selects relevant lines of a cluster's processes. It tracks which processes are in the middle of a traceback."""

    def __init__(self) -> None:
        self._within: set[tuple[Any, Any]] = set()
        self._bookkeeping: set[tuple[Any, Any]] = set()

    def kept(self, sender: tuple[Any, Any], lines: list[str]) -> Iterator[str]:
        """The relevant lines of a process. A traceback may continue in the next call. `sender`: node and process."""
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
    """Filters the workers' output before Ray prints it. Call it once Ray is connected."""
    from ray._private.ray_logging import global_worker_stdstream_dispatcher
    from ray._private.worker import print_to_stdstream

    lines = WorkerLogFilter()

    def forward(data: dict[str, Any]) -> None:
        kept = list(lines.kept((data.get("ip"), data.get("pid")), data["lines"]))
        if kept:
            print_to_stdstream({**data, "lines": kept}, False)

    global_worker_stdstream_dispatcher.remove_handler("ray_print_logs")
    global_worker_stdstream_dispatcher.add_handler("ray_print_logs", forward)

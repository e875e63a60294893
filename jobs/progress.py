"""Progress of a job: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jobs.metrics import TileMetrics

LINE_EVERY = 10
"""A line is printed after each multiple of this many items."""

LONGEST_SILENCE = 60.0
"""Seconds without a line after which the next item gets one, whatever its number."""


class JobProgress:
    """Counts the items that a job has processed and shows the count and the rate.

    with JobProgress("ingest-pastis", "patches", len(todo), display) as progress:
        for outcome in outcomes:
            progress.advance()
    """

    def __init__(self, job: str, unit: str, total: int, display: Console) -> None:
        """
        Args:
            job: the job's name, for example `ingest-pastis`.
            unit: what is counted, in the plural, for example `tiles`.
            total: number of items.
            display: console for the progress.
        """
        self.job = job
        self.unit = unit
        self.total = total
        self.done = 0
        self.failed = 0
        self._display = display
        self._begin = time.monotonic()
        self._last_line = self._begin
        columns = (TextColumn(job), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
        self._bar = Progress(*columns, console=display, transient=True, disable=not display.is_terminal)
        self._task = self._bar.add_task(unit, total=total)
        self._metrics: TileMetrics | None = None

    @property
    def rate(self) -> float:
        """Items per second since the start."""
        return self.done / max(time.monotonic() - self._begin, 1e-9)

    def advance(self, count: int = 1) -> None:
        """Adds `count` finished items."""
        self.update(self.done + count)

    def fail(self, count: int = 1) -> None:
        """Adds `count` failures among the items that are finished now or with the next update."""
        self.failed += count
        self._publish()

    def update(self, done: int) -> None:
        """Sets the number of finished items."""
        self.done = done
        self._bar.update(self._task, completed=done)
        self._publish()
        now = time.monotonic()
        if done % LINE_EVERY == 0 or done == self.total or now - self._last_line >= LONGEST_SILENCE:
            self._last_line = now
            if not self._display.is_terminal:
                self._display.print(
                    f"{self.job}: {done} of {self.total} {self.unit}, {self.rate:.3g} per second",
                    highlight=False,
                    soft_wrap=True,
                )

    def __enter__(self) -> JobProgress:
        self._begin = self._last_line = time.monotonic()
        self._metrics = TileMetrics(self.job)
        self._publish()
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._metrics:
            self._metrics.close()

    def _publish(self) -> None:
        if self._metrics:
            self._metrics.show(self.done, self.failed, self.total)

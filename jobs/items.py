"""What the jobs on many independent items share: where the work is done, and what is printed. Progress is a bar on a
terminal and plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cluster.connection import connect
from jobs.metrics import TileMetrics
from restore_dit.data.items import Item, OnOutcome, Outcome, Plan, Result, RunReport
from restore_dit.data.runner import run
from restore_dit.data.store.manifest import TileRecord

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


def run_items(
    plan: Plan[Item, Result],
    workers: int | None,
    on_outcome: OnOutcome = lambda outcome, done, total: None,
    *,
    job: str,
    unit: str,
    display: Console,
    few: int = 0,
    does: str = "",
    there: str = "already done",
    refusal: str = "no results for",
    line: Callable[[str, Result], str] | None = None,
) -> RunReport[Result]:
    """`run` for a job, which connects to Ray if it needs it, and prints its progress and what fails.

    Args:
        plan: what to do.
        workers: as for `run`.
        on_outcome: as for `run`.
        job: the job's name, for example `ingest-pastis`.
        unit: what the items are, in the plural, for messages.
        display: console for the progress.
        few: if `workers` is None, up to this many items are processed in this process, which is faster than starting
            Ray.
        does: what is done to the items, for the first line; by default, the first word of the job's name.
        there: what is said of the items that the output has, for the same line; empty if it never has any.
        refusal: what precedes the name of an item that failed.
        line: a line to print about each result.
    """
    does = does or job.partition("-")[0]
    done_before = f", {plan.there} {there}" if there else ""
    display.print(f"{len(plan.todo)} {unit} to {does}{done_before}", highlight=False, soft_wrap=True)
    for item, reason in plan.refused.items():
        print(f"{refusal} {item}: {reason}", file=sys.stderr, flush=True)
    if workers is None and len(plan.todo) <= few:
        workers = 0
    if workers != 0 and plan.todo:
        connect(display)
    with JobProgress(job, unit, len(plan.todo), display) as progress:

        def show(outcome: Outcome[Result], done: int, total: int) -> None:
            if outcome.result is None:
                progress.fail()
                print(f"{refusal} {outcome.item}: {outcome.reason}", file=sys.stderr, flush=True)
            elif line is not None:
                display.print(line(outcome.item, outcome.result), highlight=False, soft_wrap=True)
            for remark in outcome.remarks:
                print(f"{outcome.item}: {remark}", file=sys.stderr, flush=True)
            on_outcome(outcome, done, total)
            progress.update(done)

        return run(plan, workers, show)


def add_tiles(
    plan: Plan[Item, TileRecord], workers: int | None, *, job: str, unit: str, display: Console, few: int = 0
) -> RunReport[TileRecord]:
    """`run_items` for a job that fills a tile store, with a summary."""
    report = run_items(plan, workers, job=job, unit=unit, display=display, few=few, refusal="quarantined")
    added = len(report.results)
    if added:
        size = sum(file.size for record in report.results.values() for file in record.objects.values())
        display.print(
            f"{added} {unit} in {report.seconds:.0f} s (each {report.seconds_made / added:.2f} s to read or simulate "
            f"and {report.seconds_written / added:.2f} s to write), {size / 1e6:.0f} MB written",
            highlight=False,
            soft_wrap=True,
        )
    display.print(
        f"{plan.where}: {len(report.committed.tiles)} tiles, {len(report.failed)} quarantined",
        soft_wrap=True,
        highlight=False,
    )
    return report

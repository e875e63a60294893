"""What the jobs on many independent items share: where the work is done, progress, and what is printed."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.console import Console

from cluster.connection import connect
from jobs.progress import JobProgress
from restore_dit.data.items import Item, OnOutcome, Outcome, Plan, Result, RunReport
from restore_dit.data.runner import run
from restore_dit.data.store.manifest import TileRecord


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

"""What the jobs that fill a tile store share: local or distributed execution, progress, and the final summary."""

from __future__ import annotations

import sys
import time

from rich.console import Console

from cluster.connection import connect
from jobs.progress import JobProgress
from restore_dit.data.store.add_tiles import AddedTiles, Outcome, TilePlan, add_tiles, outcomes, outcomes_on_cluster


def run_tile_job(
    job: str, unit: str, plan: TilePlan, workers: int | None, display: Console, *, few: int = 0
) -> AddedTiles:
    """Executes a plan, prints a summary and returns the report.

    Args:
        job: the job's name.
        unit: what is made into tiles, in the plural, for messages.
        plan: the tiles to add.
        workers: concurrent tasks on Ray; None: one per CPU; 0: run in this process.
        display: console for the progress.
        few: if `workers` is None, up to this many tiles are made in this process, which is faster than starting Ray.
    """
    display.print(f"{len(plan.todo)} {unit} to {job.partition('-')[0]}, {plan.there} already done", highlight=False)
    if workers == 0 or not plan.todo or (workers is None and len(plan.todo) <= few):
        found = outcomes(plan)
    else:
        connect(display)
        found = outcomes_on_cluster(plan, workers)
    begin = time.perf_counter()
    with JobProgress(job, unit, len(plan.todo), display) as progress:

        def on_tile(outcome: Outcome, done: int, total: int) -> None:
            if outcome.reason:
                progress.fail()
                print(f"quarantined {outcome.tile_id}: {outcome.reason}", file=sys.stderr, flush=True)
            for remark in outcome.remarks:
                print(f"{outcome.tile_id}: {remark}", file=sys.stderr, flush=True)
            progress.update(done)

        report = add_tiles(plan, found, on_tile)
    for tile_id, reason in plan.bad.items():
        print(f"quarantined {tile_id}: {reason}", file=sys.stderr)
    if report.added:
        making, writing = report.seconds_read / report.added, report.seconds_written / report.added
        display.print(
            f"{report.added} {unit} in {time.perf_counter() - begin:.0f} s (each {making:.2f} s to read or simulate "
            f"and {writing:.2f} s to write), {report.bytes_written / 1e6:.0f} MB written",
            highlight=False,
            soft_wrap=True,
        )
    display.print(
        f"{plan.writer.location.uri}: {len(report.manifest.tiles)} tiles, {len(report.quarantined)} quarantined",
        soft_wrap=True,
        highlight=False,
    )
    return report

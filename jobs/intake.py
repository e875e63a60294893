"""What the jobs that fill a tile store share: here or on the cluster, progress, what is said at the end."""

from __future__ import annotations

import sys
import time

from rich.console import Console

from jobs.entry import connect
from jobs.progress import JobProgress
from restore_dit.data.store.tile_intake import IntakePlan, IntakeReport, Outcome, outcomes, take_in


def run_intake(
    job: str, unit: str, plan: IntakePlan, workers: int | None, display: Console, *, few: int = 0
) -> IntakeReport:
    """Carries out a plan and says what became of it.

    Args:
        job: the job's name.
        unit: what its tiles come from, in the plural.
        plan: what is to be done.
        workers: tasks at a time; none: one a CPU; 0: this process.
        display: where progress goes.
        few: with `workers` none, so many are done in this process, being done sooner than Ray has started.
    """
    display.print(f"{len(plan.todo)} {unit} to {job.partition('_')[0]}, {plan.there} there already", highlight=False)
    if workers == 0 or not plan.todo or (workers is None and len(plan.todo) <= few):
        found = outcomes(plan)
    else:
        connect(display)
        from restore_dit.data.store.intake_job import outcomes_on_cluster

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

        report = take_in(plan, found, on_tile)
    for tile_id, reason in plan.bad.items():
        print(f"quarantined {tile_id}: {reason}", file=sys.stderr)
    if report.added:
        making, writing = report.seconds_read / report.added, report.seconds_written / report.added
        display.print(
            f"{report.added} {unit} in {time.perf_counter() - begin:.0f} s ({making:.2f} s reading or making and "
            f"{writing:.2f} s writing each), {report.bytes_written / 1e6:.0f} MB written",
            highlight=False,
            soft_wrap=True,
        )
    display.print(
        f"{plan.writer.location.uri}: {len(report.manifest.tiles)} tiles, {len(report.quarantined)} quarantined",
        soft_wrap=True,
        highlight=False,
    )
    return report

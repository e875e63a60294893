"""PASTIS-R to a tile store as a job: `python -m jobs.ingest --config F key=value`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.console import Console

from jobs.entry import connect, job_main, require
from jobs.progress import JobProgress
from restore_dit.config.loading import load_section
from restore_dit.config.pastis import PastisConfig
from restore_dit.data.pastis.ingest import Outcome, outcomes, plan_ingest, run_ingest


def run(config: PastisConfig, display: Console) -> int:
    """Ingests, says what is there and what is quarantined; 1 if a patch of this run was, unless that is allowed."""
    require(config, "source", "output")
    plan = plan_ingest(config)
    display.print(f"{len(plan.todo)} patches to ingest, {plan.there} there already", highlight=False)
    if plan.todo and config.workers != 0:
        connect()
        from restore_dit.data.pastis.ingest_job import outcomes_on_cluster

        found = outcomes_on_cluster(plan)
    else:
        found = outcomes(plan)
    begin = time.perf_counter()
    with JobProgress("ingest", "patches", len(plan.todo), display) as progress:

        def on_patch(outcome: Outcome, done: int, total: int) -> None:
            if outcome.reason:
                print(f"quarantined {outcome.patch}: {outcome.reason}", file=sys.stderr, flush=True)
            progress.update(done)

        report = run_ingest(plan, found, on_patch)
    for patch, reason in plan.bad.items():
        print(f"quarantined {patch}: {reason}", file=sys.stderr)
    if report.added:
        written = sum(
            file.size
            for source in plan.todo
            if source.patch.patch in report.manifest.tiles
            for file in report.manifest.tiles[source.patch.patch].objects.values()
        )
        seconds = time.perf_counter() - begin
        reading, writing = report.seconds_read / report.added, report.seconds_written / report.added
        display.print(
            f"{report.added} patches in {seconds:.0f} s ({reading:.2f} s reading and {writing:.2f} s writing each), "
            f"{written / 1e6:.0f} MB written",
            highlight=False,
        )
    display.print(
        f"{config.output}: {len(report.manifest.tiles)} tiles, {len(report.quarantined)} quarantined",
        soft_wrap=True,
        highlight=False,
    )
    return 1 if report.quarantined and not config.allow_bad_tiles else 0


def main(argv: list[str] | None = None) -> int:
    """Entry point."""

    def read(path: str | None, overrides: list[str]) -> PastisConfig:
        return load_section(PastisConfig, overrides, Path(path) if path else None)

    return job_main(
        "ingest", "PASTIS-R to a tile store; the same configuration as `restore-dit ingest pastis`.", read, run, argv
    )


if __name__ == "__main__":
    sys.exit(main())

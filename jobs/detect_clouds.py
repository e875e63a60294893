"""Job that computes cloud masks for a tile store: `python -m jobs.detect_clouds`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rich.console import Console

from cluster.connection import connect
from jobs.entry import main
from jobs.progress import JobProgress
from restore_dit.clouds.detect import (
    DetectionPlan,
    Outcome,
    chosen_masks,
    outcomes,
    outcomes_on_cluster,
    plan_detection,
    run_detection,
)
from restore_dit.config.clouds import DetectionConfig

FEW_TILES = 4
"""Up to this many tiles are masked faster in this process than Ray takes to start."""


def run(config: DetectionConfig, display: Console) -> int:
    """Computes masks and prints which are in use. Returns the exit status: 1 if a tile could not be masked."""
    plan = plan_detection(config)
    display.print(
        f"{len(plan.todo)} tiles to mask by {plan.writer.origin.method}, "
        f"{plan.tiles - len(plan.todo) - len(plan.refused)} already done",
        highlight=False,
    )
    for tile_id, reason in plan.refused.items():
        print(f"no masks for {tile_id}: {reason}", file=sys.stderr)
    found = _outcomes(plan, display)
    with JobProgress("detect-clouds", "tiles", len(plan.todo), display) as progress:

        def on_tile(outcome: Outcome, done: int, total: int) -> None:
            if outcome.reason:
                print(f"no masks for {outcome.tile_id}: {outcome.reason}", file=sys.stderr, flush=True)
                progress.fail()
            progress.update(done)

        report = run_detection(plan, found, on_tile)
    if report.added:
        display.print(
            f"{report.added} tiles of {report.frames} acquisitions in {report.seconds:.0f} s", highlight=False
        )
    for origin, tiles in chosen_masks(report.manifest).items():
        display.print(f"{config.store}: masks in use on {tiles} tiles: {origin}", soft_wrap=True, highlight=False)
    return 1 if report.failed else 0


def _outcomes(plan: DetectionPlan, display: Console) -> Iterator[Outcome]:
    """Outcomes of the tiles, computed in this process or, if there are enough tiles, on Ray."""
    workers = plan.config.workers
    if workers == 0 or (workers is None and len(plan.todo) <= FEW_TILES) or not plan.todo:
        return outcomes(plan)
    connect(display)
    return outcomes_on_cluster(plan)


if __name__ == "__main__":
    sys.exit(main("detect-clouds"))

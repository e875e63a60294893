"""Job that reconstructs series: `python -m jobs.reconstruct`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console

from cluster.connection import connect
from jobs.entry import main
from jobs.progress import JobProgress
from restore_dit.config.jobs import ReconstructionConfig

if TYPE_CHECKING:
    from restore_dit.reconstruction.batch import Outcome, ReconstructionPlan

SECONDS_BETWEEN_LINES = 10.0
"""Minimum time between two progress lines within a large tile."""


def run(config: ReconstructionConfig, display: Console) -> int:
    """Reconstructs every series of the input and prints where the results are. Returns the exit status: 1 if a series
    could not be reconstructed."""
    from restore_dit.evaluation.figures import picture_of
    from restore_dit.reconstruction.batch import plan_reconstruction

    plan = plan_reconstruction(config, picture_of)
    if plan.there:
        display.print(
            f"{plan.there} tiles already have results (resume=false recomputes them)",
            highlight=False,
            soft_wrap=True,
        )
    failed = 0
    with JobProgress("reconstruct", "tiles", len(plan.todo), display) as progress:
        for outcome in _outcomes(plan, display):
            if outcome.reason:
                failed += 1
                progress.fail()
                print(f"no results for {outcome.tile_id}: {outcome.reason}", file=sys.stderr, flush=True)
            else:
                display.print(_summary(outcome), highlight=False, soft_wrap=True)
            for remark in outcome.remarks:
                print(f"{outcome.tile_id}: {remark}", file=sys.stderr, flush=True)
            progress.advance()
    without = f" ({failed} of {len(plan.todo)} tiles have none)" if failed else ""
    display.print(f"results: {config.output}{without}", soft_wrap=True, highlight=False)
    return 1 if failed else 0


def _summary(outcome: Outcome) -> str:
    """One line about a reconstructed tile."""
    text = f"{outcome.tile_id}: {outcome.dates} dates, {outcome.reconstructed:.0%} of pixels reconstructed"
    if outcome.never_observed:
        text += f"; {outcome.never_observed} pixels are never observed and so are guesses (marked in never_observed)"
    return f"{text}; {outcome.calibration}" if outcome.calibration else text


def _outcomes(plan: ReconstructionPlan, display: Console) -> Iterator[Outcome]:
    """Outcomes of the tiles, computed in this process or on Ray."""
    from restore_dit.reconstruction.batch import outcomes, outcomes_on_cluster

    if plan.config.workers and plan.todo:
        connect(display)
        return outcomes_on_cluster(plan)
    last_line = time.monotonic()

    def on_window(tile_id: str, done: int, total: int) -> None:
        nonlocal last_line
        if time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            display.print(f"{tile_id}: window {done} of {total}", highlight=False)

    return outcomes(plan, on_window)


if __name__ == "__main__":
    sys.exit(main("reconstruct"))

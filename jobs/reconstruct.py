"""Job that reconstructs series: `python -m jobs.reconstruct`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console

from jobs.entry import main
from jobs.items import run_items
from restore_dit.config.jobs import ReconstructionConfig

if TYPE_CHECKING:
    from restore_dit.reconstruction.batch import FilledTile

SECONDS_BETWEEN_LINES = 10.0
"""Minimum time between two progress lines within a large tile."""


def run(config: ReconstructionConfig, display: Console) -> int:
    """Reconstructs every series of the input and prints where the results are. Returns the exit status: 1 if a series
    could not be reconstructed."""
    from restore_dit.evaluation.figures import picture_of
    from restore_dit.reconstruction.batch import plan_reconstruction

    last_line = time.monotonic()

    def on_window(tile_id: str, done: int, total: int) -> None:
        nonlocal last_line
        if time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            display.print(f"{tile_id}: window {done} of {total}", highlight=False)

    # Only this process can print while a tile is processed.
    plan = plan_reconstruction(config, picture_of, None if config.workers else on_window)
    report = run_items(
        plan,
        config.workers,
        job="reconstruct",
        unit="tiles",
        display=display,
        there="already done (resume=false repeats them)" if plan.there else "already done",
        line=_summary,
    )
    without = f" ({len(report.failed)} of {len(plan.todo)} tiles have none)" if report.failed else ""
    display.print(f"results: {config.output}{without}", soft_wrap=True, highlight=False)
    return 1 if report.failed else 0


def _summary(tile_id: str, filled: FilledTile) -> str:
    """One line about a reconstructed tile."""
    text = f"{tile_id}: {filled.dates} dates, {filled.reconstructed:.0%} of pixels reconstructed"
    for share, how in ((filled.extrapolated, "extrapolated"), (filled.unknown, "guessed")):
        if share:
            text += f", {share:.1%} {how}"
    if filled.suspect:
        text += f", {filled.suspect:.1%} of the observed ones {'were' if filled.replaced else 'are'} suspect"
        text += " and replaced" if filled.replaced else ""
    if filled.never_observed:
        text += f"; {filled.never_observed} pixels are never observed and so are guesses (marked in never_observed)"
    return f"{text}; {filled.remark}" if filled.remark else text


if __name__ == "__main__":
    sys.exit(main("reconstruct"))

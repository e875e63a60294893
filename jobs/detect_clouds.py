"""Job that computes cloud masks for a tile store: `python -m jobs.detect_clouds`."""

from __future__ import annotations

import sys

from rich.console import Console

from jobs.entry import main
from jobs.items import run_items
from restore_dit.clouds.detect import chosen_masks, frames_masked, plan_detection
from restore_dit.config.clouds import DetectionConfig

FEW_TILES = 4
"""Up to this many tiles are masked faster in this process than Ray takes to start."""


def run(config: DetectionConfig, display: Console) -> int:
    """Computes masks and prints which are in use. Returns the exit status: 1 if a tile could not be masked."""
    plan = plan_detection(config)
    report = run_items(
        plan,
        config.workers,
        job="detect-clouds",
        unit="tiles",
        display=display,
        few=FEW_TILES,
        does=f"mask by {config.method}",
        refusal="no masks for",
    )
    if report.results:
        display.print(
            f"{len(report.results)} tiles of {frames_masked(report)} acquisitions in {report.seconds:.0f} s",
            highlight=False,
        )
    for origin, tiles in chosen_masks(report.committed).items():
        display.print(f"{config.store}: masks in use on {tiles} tiles: {origin}", soft_wrap=True, highlight=False)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main("detect-clouds"))

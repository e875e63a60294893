"""Job that trains a model: `python -m jobs.train`."""

from __future__ import annotations

import sys

from rich.console import Console

from cluster.connection import connect
from jobs.entry import main
from jobs.metrics import TrainingMetrics
from restore_dit.config import RunConfig
from restore_dit.program import INTERRUPTED


def run(config: RunConfig, display: Console) -> int:
    """Trains a model. Returns the exit status: 0 if finished, 130 if stopped by Ctrl-C, with the state saved."""
    from restore_dit.training.run import run_training

    if config.workers.count:
        connect(display)
    result = run_training(config, display, [TrainingMetrics(config.name)])
    if not result.finished:
        where = f"after step {result.step}; its state is saved in {result.folder}" if result.step else "before any step"
        display.print(
            f"stopped {where}. Run the same command again to resume.",
            soft_wrap=True,
            highlight=False,
        )
        return INTERRUPTED
    display.print(f"finished; model: {result.model}", soft_wrap=True, highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main("train"))

"""Job that trains a model: `python -m jobs.train`."""

from __future__ import annotations

import sys

from rich.console import Console

from cluster.connection import connect
from jobs.entry import main
from jobs.metrics import TrainingMetrics
from restore_dit.config import RunConfig


def run(config: RunConfig, display: Console) -> int:
    """Trains a model. Returns the exit status: 0 if finished, 130 if stopped by Ctrl-C, with the state saved."""
    from restore_dit.training.run import run_training

    if config.workers.count:
        connect(display)
    return run_training(config, display, [TrainingMetrics(config.name)]).tell(display)


if __name__ == "__main__":
    sys.exit(main("train"))

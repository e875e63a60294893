"""Training as a job: `python -m jobs.train --config F key=value`."""

from __future__ import annotations

import sys

from rich.console import Console

from jobs.entry import INTERRUPTED, connect, job_main
from jobs.metrics import TrainingMetrics
from jobs.registry import run_config
from restore_dit.config import RunConfig


def run(config: RunConfig, display: Console) -> int:
    """Trains; 0 finished, 130 stopped by Ctrl-C with its state saved."""
    from restore_dit.training.run import run_training

    if config.workers.count:
        connect(display)
    result = run_training(config, display, [TrainingMetrics(config.name)])
    if not result.finished:
        where = f"after step {result.step}; its state is saved in {result.folder}" if result.step else "before any step"
        display.print(
            f"stopped {where}. The same command goes on from there.",
            soft_wrap=True,
            highlight=False,
        )
        return INTERRUPTED
    display.print(f"finished; the model is {result.model}", soft_wrap=True, highlight=False)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return job_main("train", "Trains a model; the same configuration as `restore-dit train`.", run_config, run, argv)


if __name__ == "__main__":
    sys.exit(main())

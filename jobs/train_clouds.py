"""Job that trains a cloud-detection network: `python -m jobs.train_clouds`."""

from __future__ import annotations

import sys

from rich.console import Console

from jobs.entry import main
from restore_dit.config.cloud_training import CloudTrainingConfig
from restore_dit.program import INTERRUPTED


def run(config: CloudTrainingConfig, display: Console) -> int:
    """Trains a network. Returns the exit status: 0 if finished, 130 if stopped by Ctrl-C, with the state saved."""
    from restore_dit.clouds.training.task import train_cloud_network
    from restore_dit.clouds.training.validation import score_line

    result = train_cloud_network(config, display)
    if not result.finished:
        display.print(
            f"stopped after step {result.step}; its state is saved in {result.output}. "
            "Run the same command again to resume.",
            soft_wrap=True,
            highlight=False,
        )
        return INTERRUPTED
    for name, counts in result.counts.items():
        display.print(f"held-out part of {name}: {score_line(counts)}", soft_wrap=True, highlight=False)
    display.print(f"finished; model: {result.output}", soft_wrap=True, highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main("train-clouds"))

"""Job that trains a cloud-detection network: `python -m jobs.train_clouds`."""

from __future__ import annotations

import sys

from rich.console import Console

from jobs.entry import main
from restore_dit.config.cloud_training import CloudTrainingConfig


def run(config: CloudTrainingConfig, display: Console) -> int:
    """Trains a network. Returns the exit status: 0 if finished, 130 if stopped by Ctrl-C, with the state saved."""
    from restore_dit.clouds.training.run import train_cloud_network

    return train_cloud_network(config, display).tell(display)


if __name__ == "__main__":
    sys.exit(main("train-clouds"))

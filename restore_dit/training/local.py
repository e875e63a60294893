"""Training in the current process, without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from restore_dit.data import loader
from restore_dit.training import process_group
from restore_dit.training.loop import fit
from restore_dit.training.monitor import Monitor
from restore_dit.training.setup import TrainingSetup


def fit_here(setup: TrainingSetup, monitor: Monitor) -> bool:
    """Trains in this process and returns whether the run is finished."""

    def batches(start: int, stop: int) -> Iterator[list[dict[str, Any]]]:
        return loader.step_batches(setup.plan, setup.reader, setup.maker, start, stop, setup.config.micro_batch_size)

    process_group.join_alone(setup.config.workers.use_gpu)
    return fit(setup, batches, monitor)

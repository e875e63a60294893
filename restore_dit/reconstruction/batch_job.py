"""Reconstruction on a cluster: a pool of Ray actors, each of which loads the model once, then reads, fills and writes
tiles."""

from __future__ import annotations

from collections.abc import Iterator

from restore_dit.data.tasks_job import outcomes_of_actors
from restore_dit.reconstruction.batch import Outcome, ReconstructionPlan

ACTOR_MEMORY = 1 << 30
"""Memory reserved per actor, in bytes: for a tile's whole series, the network and its activations."""


def outcomes_on_cluster(plan: ReconstructionPlan) -> Iterator[Outcome]:
    """Yields the outcome of each tile, in the order in which actors finish. If an actor dies, its tile is retried.

    Raises:
        UserError: the cluster lacks the GPUs, a worker reports an error that is not specific to one tile, or workers
            die repeatedly.
    """
    return outcomes_of_actors(
        plan.work,
        [[tile_id] for tile_id in plan.todo],
        plan.config.workers,
        use_gpu=plan.config.sampling.use_gpu,
        memory=ACTOR_MEMORY,
        where=plan.config.output,
    )

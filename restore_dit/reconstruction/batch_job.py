"""The tiles of a reconstruction on a cluster: a pool of actors, each with the model once, that read, fill and write."""

from __future__ import annotations

from collections.abc import Iterator

from restore_dit.data.tasks_job import outcomes_of_actors
from restore_dit.reconstruction.batch import Outcome, ReconstructionPlan

ACTOR_MEMORY = 1 << 30
"""What an actor may need, in bytes: a tile's whole series, the network and its activations."""


def outcomes_on_cluster(plan: ReconstructionPlan) -> Iterator[Outcome]:
    """What becomes of each tile, in whatever order actors finish. The tile of an actor that dies is done again.

    Raises:
        UserError: the cluster lacks the GPUs; what a worker says that a user can mend and that is no tile's fault;
            workers that die again and again.
    """
    return outcomes_of_actors(
        plan.work,
        [[tile_id] for tile_id in plan.todo],
        plan.config.workers,
        use_gpu=plan.config.sampling.use_gpu,
        memory=ACTOR_MEMORY,
        where=plan.config.output,
    )

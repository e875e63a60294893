"""Tiles on a cluster: a pool of actors, each with the detector once, that read, mask and write."""

from __future__ import annotations

from collections.abc import Iterator

from restore_dit.clouds.detect import DetectionPlan, Outcome
from restore_dit.data.tasks_job import outcomes_of_actors

TILES_A_TASK = 4
"""Tiles that an actor is given at once: their frames share batches, and a worker that dies loses no more."""

ACTOR_MEMORY = 1 << 30
"""What an actor may need, in bytes: a few tiles decoded, the network and its activations."""


def outcomes_on_cluster(plan: DetectionPlan) -> Iterator[Outcome]:
    """What becomes of each tile, in whatever order actors finish. The tiles of an actor that dies are done again.

    Raises:
        UserError: the cluster lacks the GPUs; whatever a worker says that a user can mend; workers that die again and
            again.
    """
    assert plan.masker is not None
    groups = [plan.todo[first : first + TILES_A_TASK] for first in range(0, len(plan.todo), TILES_A_TASK)]
    return outcomes_of_actors(
        plan.masker,
        groups,
        plan.config.workers,
        use_gpu=plan.config.use_gpu,
        memory=ACTOR_MEMORY,
        where=plan.config.store,
    )

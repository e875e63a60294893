"""Detection on a cluster: a pool of actors, each with its own detector, that read tiles and write masks."""

from __future__ import annotations

from collections.abc import Iterator

from restore_dit.clouds.detect import DetectionPlan, Outcome
from restore_dit.data.tasks_job import outcomes_of_actors

TILES_A_TASK = 4
"""Tiles per task of an actor: their frames share batches, and a worker that dies loses at most this many."""

ACTOR_MEMORY = 1 << 30
"""Memory of an actor, in bytes: a few decoded tiles, the network and its activations."""


def outcomes_on_cluster(plan: DetectionPlan) -> Iterator[Outcome]:
    """The outcome of each tile, in the order in which actors finish. The tiles of an actor that dies are retried.

    Raises:
        UserError: the cluster lacks the GPUs, a worker raised a `UserError`, or workers keep dying.
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

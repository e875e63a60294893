"""Scores an evaluation's tiles on a cluster: a pool of actors, each with one copy of the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from restore_dit.data.tasks_job import outcomes_of_actors
from restore_dit.evaluation.evaluate import TileEvaluator
from restore_dit.evaluation.protocols import TileScores

ACTOR_MEMORY = 1 << 30
"""Memory reserved per actor in bytes: a tile's whole series, the network and its activations."""


def scores_on_cluster(work: TileEvaluator, tile_ids: Sequence[str]) -> Iterator[TileScores]:
    """Yields scores in the order in which the actors finish.

    Raises:
        UserError: the cluster lacks the GPUs, a worker reports an error that the user can fix, or workers die
            repeatedly.
    """
    return outcomes_of_actors(
        work,
        [[tile_id] for tile_id in tile_ids],
        work.config.workers,
        use_gpu=work.config.sampling.use_gpu,
        memory=ACTOR_MEMORY,
        where=work.config.output,
    )

"""The tiles of an evaluation on a cluster: a pool of actors, each with the model once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from restore_dit.data.tasks_job import outcomes_of_actors
from restore_dit.evaluation.evaluate import TileEvaluator
from restore_dit.evaluation.protocols import TileScores

ACTOR_MEMORY = 1 << 30
"""What an actor may need, in bytes: a tile's whole series, the network and its activations."""


def scores_on_cluster(work: TileEvaluator, tile_ids: Sequence[str]) -> Iterator[TileScores]:
    """Scores in whatever order the actors finish.

    Raises:
        UserError: the cluster lacks the GPUs; what a worker says that a user can mend; workers that die again and
            again.
    """
    return outcomes_of_actors(
        work,
        [[tile_id] for tile_id in tile_ids],
        work.config.workers,
        use_gpu=work.config.sampling.use_gpu,
        memory=ACTOR_MEMORY,
        where=work.config.output,
    )

"""Tiles on a cluster: a pool of Ray Data's actors, each with the detector once, that read, mask and write."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from typing import Any, cast

import ray
import ray.data
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning

from restore_dit.clouds.detect import DetectionPlan, Outcome, TileMasker
from restore_dit.config.clouds import DetectionConfig
from restore_dit.data.worker_errors import user_error_behind
from restore_dit.errors import UserError

TILES_A_TASK = 4
"""Tiles that an actor is given at once: their frames share batches, and a worker that dies loses no more."""

ACTOR_MEMORY = 1 << 30
"""What an actor may need, in bytes: a few tiles decoded, the network and its activations."""

ACTOR_RESTARTS = 3


class _Actor:
    """Callable of `map_batches`: `{"tile_id": [n]}` → `{"outcome": [n]}`."""

    def __init__(self, masker: ray.ObjectRef[TileMasker]) -> None:
        self.masker = ray.get(masker)

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        return {"outcome": list(self.masker([str(tile_id) for tile_id in rows["tile_id"]]))}


def outcomes_on_cluster(plan: DetectionPlan) -> Iterator[Outcome]:
    """What becomes of each tile, in whatever order actors finish. The tiles of an actor that dies are done again.

    Raises:
        UserError: the cluster lacks the GPUs; whatever a worker says that a user can mend; workers that die again and
            again.
    """
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # its bars and reports would stand between our lines
    assert plan.masker is not None
    tasks = -(-len(plan.todo) // TILES_A_TASK)
    actors = min(_workers(plan.config), tasks)
    with warnings.catch_warnings():
        # Ray 2.60 announces another way to say `max_restarts` but has none yet; unsaid, an actor is restarted for ever.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = ray.data.from_items([{"tile_id": tile} for tile in plan.todo], override_num_blocks=tasks).map_batches(
            cast(Any, _Actor),
            fn_constructor_args=(ray.put(plan.masker),),
            batch_size=TILES_A_TASK,
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_gpus=1 if plan.config.use_gpu else 0,
            num_cpus=1,
            memory=ACTOR_MEMORY,
            max_restarts=ACTOR_RESTARTS,
            max_task_retries=ACTOR_RESTARTS,
        )
    dataset.context.enable_progress_bars = False
    dataset.context.print_on_execution_start = False
    try:
        for row in dataset.iter_rows():
            yield row["outcome"]
    except RayError as error:
        mendable = user_error_behind(error)
        if mendable is not None:
            raise mendable from error
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{plan.config.store}: a worker failed {ACTOR_RESTARTS + 1} times ({reason}); with fewer workers each has "
            "more memory; run the same command again: what is done is kept"
        ) from error


def _workers(config: DetectionConfig) -> int:
    """How many actors are asked for. Those that wait for a GPU that is not there would wait without a word."""
    present = ray.cluster_resources()
    if not config.use_gpu:
        return max(1, int(present.get("CPU", 1))) if config.workers is None else config.workers
    gpus = int(present.get("GPU", 0))
    workers = max(1, gpus) if config.workers is None else config.workers
    if workers > gpus:
        raise UserError(
            f"use_gpu=true asks for a GPU for each worker ({workers}); the cluster has {gpus}: set workers to at most "
            "as many, or use_gpu=false"
        )
    return workers

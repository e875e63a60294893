"""Planned examples through Ray Data: read, decoded and cut in tasks, delivered in plan order to a training worker."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import ray
import ray.data

from restore_dit.data.examples.batch import stack_column
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.data.examples.maker import ExampleMaker
from restore_dit.data.examples.plan import EpochPlan
from restore_dit.data.loader import TileReader

EXAMPLES_A_SEGMENT = 4096
"""Examples of a rank that one Ray dataset covers: long enough to hide its start, short enough to plan at once."""

EXAMPLES_A_BLOCK = 4
"""Examples that one task cuts: the unit that is scheduled, and held in the object store."""


class ExampleSource:
    """Callable of Ray Data's `map`: row `{"id": n}` → the n-th example of a rank's share, counted from `start`.

    `decoded` optionally maps tile ids to object references of decoded tiles (see `cache_decoded`).
    """

    def __init__(
        self,
        plan: EpochPlan,
        reader: TileReader,
        maker: ExampleMaker,
        *,
        rank: int,
        world_size: int,
        micro_batch_size: int,
        start: int,
        decoded: dict[str, Any] | None = None,
    ) -> None:
        self.plan = plan
        self.reader = reader
        self.maker = maker
        self.rank = rank
        self.world_size = world_size
        self.micro_batch_size = micro_batch_size
        self.start = start
        self.decoded = decoded
        self.examples_a_step = plan.batch_size // world_size

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The example, its weight and its tile with it."""
        step, index = divmod(int(row["id"]), self.examples_a_step)
        share = self.plan.share(self.start + step, self.rank, self.world_size, self.micro_batch_size)
        micro, position = divmod(index, self.micro_batch_size)
        planned = share[micro][position]
        if self.decoded is None:
            tile = self.reader(planned.tile_id)
        else:
            tile = ray.get(self.decoded[planned.tile_id])
        return self.maker.training(tile, planned)


def step_batches(
    plan: EpochPlan,
    reader: TileReader,
    maker: ExampleMaker,
    start: int,
    stop: int,
    micro_batch_size: int,
    *,
    rank: int,
    world_size: int,
    cpus_for_training: float,
    cpus_a_task: float,
    decoded: dict[str, Any] | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """For each optimiser step from `start` to `stop` this rank's micro-batches as stacked columns, in plan order.

    The position is `start`, the last committed step: what was prefetched and not computed is made again. CPUs held by
    all training workers (`cpus_for_training`) are kept out of Ray Data's count.
    """
    examples_a_step = plan.batch_size // world_size
    steps_a_segment = max(1, EXAMPLES_A_SEGMENT // examples_a_step)
    for first in range(start, stop, steps_a_segment):
        steps = min(steps_a_segment, stop - first)
        source = ExampleSource(
            plan,
            reader,
            maker,
            rank=rank,
            world_size=world_size,
            micro_batch_size=micro_batch_size,
            start=first,
            decoded=decoded,
        )
        examples = steps * examples_a_step
        dataset = ray.data.range(examples, override_num_blocks=-(-examples // EXAMPLES_A_BLOCK)).map(
            source, num_cpus=cpus_a_task
        )
        context = dataset.context
        context.execution_options.preserve_order = True
        context.execution_options.exclude_resources = context.execution_options.exclude_resources.add(
            type(context.execution_options.exclude_resources)(cpu=cpus_for_training)
        )
        context.enable_progress_bars = False
        batches = dataset.iter_batches(batch_size=micro_batch_size, batch_format="numpy", prefetch_batches=2)
        micro_batches: list[dict[str, Any]] = []
        for columns in batches:
            micro_batches.append({name: _as_array(name, values) for name, values in columns.items()})
            if len(micro_batches) * micro_batch_size == examples_a_step:
                yield micro_batches
                micro_batches = []


def cache_decoded(reader: TileReader, tile_ids: tuple[str, ...], cpus_a_task: float) -> dict[str, Any]:
    """Every tile decoded once into Ray's object store, from where the tasks of all epochs and ranks read it without a
    copy. Worth it where the store fits into the cluster's object memory; Ray spills to disk what does not."""

    @ray.remote(num_cpus=cpus_a_task)
    def decode(tile_id: str) -> Any:
        return DecodedTile(reader(tile_id).series())

    return {tile_id: decode.remote(tile_id) for tile_id in tile_ids}


def _as_array(name: str, values: np.ndarray) -> np.ndarray:
    return stack_column(name, list(values)) if values.dtype == object else values


@lru_cache(maxsize=1)
def silence() -> None:
    """Ray Data's own log lines and bars say nothing to a user who follows a training run."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False

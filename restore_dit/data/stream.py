"""Planned examples through Ray Data: read, decoded and cut in tasks, delivered in plan order to a training worker.

A task makes one block: some examples of one micro-batch, as stacked columns. What it needs to know of the run (plan,
manifest, configuration) is megabytes for a large store; it lies in the object store once and is unpickled once in each
process, where the tiles' indexes stay too. A block goes through the object store as it was made, and a training worker
that takes micro-batches of one block copies nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import ray
import ray.data
from ray.data.block import BlockAccessor, BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from restore_dit.data.examples.cutting import Tile
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.data.examples.maker import ExampleMaker
from restore_dit.data.examples.plan import EpochPlan, PlannedExample
from restore_dit.data.loader import TileReader

EXAMPLES_A_SEGMENT = 16384
"""Examples of a rank that one Ray dataset covers: long enough to hide its start, short enough to plan at once."""

MOST_EXAMPLES_A_BLOCK = 8
"""Examples that one task makes at most: about 50 MB of the published size, the unit that is scheduled and held in the
object store."""

QUICK_SECONDS, MOST_QUICK_STEPS, PAUSE_SECONDS = 0.01, 10, 0.05
"""The loop by which Ray Data runs a dataset waits for tasks. While the stream is ahead of training there is nothing to
wait for, and the loop would keep a core busy, in the very process that trains: after so many quick steps in a row each
is followed by a pause."""

Decoded = dict[str, Any]
"""Tile id → reference to the decoded tile in Ray's object store."""


class UnhurriedLoop:
    """What Ray Data calls at each step of its loop (an `ExecutionCallback`)."""

    def __init__(self) -> None:
        self._step_began = time.monotonic()
        self._quick_steps = 0

    def before_execution_starts(self, executor: Any) -> None:
        """Nothing to do."""

    def on_execution_step(self, executor: Any) -> None:
        """Pauses where the loop has had nothing to wait for."""
        quick = time.monotonic() - self._step_began < QUICK_SECONDS
        self._quick_steps = self._quick_steps + 1 if quick else 0
        if self._quick_steps > MOST_QUICK_STEPS:
            time.sleep(PAUSE_SECONDS)
        self._step_began = time.monotonic()

    def after_execution_succeeds(self, executor: Any) -> None:
        """Nothing to do."""

    def after_execution_fails(self, executor: Any, error: Exception) -> None:
        """Nothing to do."""


@dataclass(frozen=True)
class StreamSource:
    """What every task of a run needs."""

    plan: EpochPlan
    reader: TileReader
    maker: ExampleMaker

    def block(self, planned: list[PlannedExample], decoded: Decoded | None = None) -> dict[str, Any]:
        """The examples, stacked; truth values as bytes, since Arrow would pack them into bits and out again."""
        tile_ids = [entry.tile_id for entry in planned]
        tiles: Sequence[Tile] = (
            self.reader.all(tile_ids) if decoded is None else ray.get([decoded[tile_id] for tile_id in tile_ids])
        )
        columns = self.maker.training(tiles, planned, threads=self.reader.threads if decoded is None else 1)
        return {name: values.view(np.uint8) if values.dtype == bool else values for name, values in columns.items()}


@dataclass(frozen=True)
class Share:
    """A rank's part of the steps from `start` on, cut into blocks of `block_size` examples, which divides the
    micro-batch."""

    rank: int
    world_size: int
    micro_batch_size: int
    block_size: int
    start: int

    def blocks_a_step(self, plan: EpochPlan) -> int:
        """Blocks of this rank in an optimiser step."""
        return plan.batch_size // self.world_size // self.block_size

    def planned(self, plan: EpochPlan, block: int) -> list[PlannedExample]:
        """The examples of the block with this number, counted from `start`."""
        step, index = divmod(block, self.blocks_a_step(plan))
        micro_batches = plan.share(self.start + step, self.rank, self.world_size, self.micro_batch_size)
        micro, position = divmod(index * self.block_size, self.micro_batch_size)
        return micro_batches[micro][position : position + self.block_size]


class Blocks(Datasource):
    """The blocks of a rank's share as a source of Ray Data: one read task each, in order."""

    def __init__(
        self, source: ray.ObjectRef, plan: EpochPlan, share: Share, steps: int, decoded: Decoded | None
    ) -> None:
        super().__init__()
        self.source = source
        self.plan = plan
        self.decoded = decoded
        self.share = share
        self.count = steps * share.blocks_a_step(plan)

    def get_name(self) -> str:
        """As Ray shows it."""
        return "Examples"

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown: it follows from the tiles."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """A task for each block, whatever the parallelism."""
        metadata = BlockMetadata(num_rows=self.share.block_size, size_bytes=None, exec_stats=None)
        return [ReadTask(self._task(block), metadata) for block in range(self.count)]

    def _task(self, block: int) -> Callable[[], Iterable[Any]]:
        planned = self.share.planned(self.plan, block)
        # With the task and not with the run: what a process keeps must not hold all tiles in the object store.
        decoded = None if self.decoded is None else {entry.tile_id: self.decoded[entry.tile_id] for entry in planned}
        return partial(_read, self.source, planned, decoded)


def _read(source: ray.ObjectRef, planned: list[PlannedExample], decoded: Decoded | None) -> Iterable[Any]:
    return [BlockAccessor.batch_to_block(_of_this_process(source).block(planned, decoded))]


@lru_cache(maxsize=1)
def _of_this_process(source: ray.ObjectRef) -> StreamSource:
    return ray.get(source)


def step_batches(
    source: ray.ObjectRef,
    plan: EpochPlan,
    start: int,
    stop: int,
    micro_batch_size: int,
    *,
    rank: int,
    world_size: int,
    cpus_for_training: float,
    cpus_a_task: float,
    decoded: Decoded | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """For each optimiser step from `start` to `stop` this rank's micro-batches as stacked columns, in plan order.

    The position is `start`, the last committed step: what was prefetched and not computed is made again. Ray Data takes
    this rank's share of the CPUs that all training workers (`cpus_for_training`) leave. `source` refers to a
    `StreamSource`; with `decoded` (see `cache_decoded`) no tile is read.
    """
    cpus = max((ray.cluster_resources().get("CPU", 0) - cpus_for_training) / world_size, cpus_a_task)
    sizes = range(1, min(micro_batch_size, MOST_EXAMPLES_A_BLOCK) + 1)
    block_size = max(size for size in sizes if micro_batch_size % size == 0)
    steps_a_segment = max(1, EXAMPLES_A_SEGMENT * world_size // plan.batch_size)
    for first in range(start, stop, steps_a_segment):
        share = Share(rank, world_size, micro_batch_size, block_size, first)
        blocks_source = Blocks(source, plan, share, min(steps_a_segment, stop - first), decoded)
        dataset = ray.data.read_datasource(blocks_source, override_num_blocks=blocks_source.count, num_cpus=cpus_a_task)
        dataset.context.target_max_block_size = None  # a block must stay whole: they are counted
        dataset.context.custom_execution_callback_classes = [UnhurriedLoop]
        options = dataset.context.execution_options
        options.preserve_order = True
        options.resource_limits = options.resource_limits.copy(cpu=cpus)
        blocks: list[dict[str, Any]] = []
        for block in dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=2):
            if len(block["weight"]) != block_size:
                raise RuntimeError(f"Ray Data cut a block of {block_size} examples to {len(block['weight'])}")
            blocks.append(block)
            if len(blocks) == share.blocks_a_step(plan):
                yield _micro_batches(blocks, micro_batch_size // block_size)
                blocks = []


def _micro_batches(blocks: list[dict[str, Any]], blocks_each: int) -> list[dict[str, Any]]:
    groups = [blocks[first : first + blocks_each] for first in range(0, len(blocks), blocks_each)]
    return [{name: _column(name, [block[name] for block in group]) for name in group[0]} for group in groups]


_TRUTH = ("valid", "gap_mask", "frame_mask", "radar_mask", "bands")


def _column(name: str, parts: list[np.ndarray]) -> np.ndarray:
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if values.dtype == object:
        return values.astype(str)
    return values.view(bool) if name in _TRUTH else values


def cache_decoded(reader: TileReader, tile_ids: tuple[str, ...], cpus_a_task: float) -> Decoded:
    """Every tile decoded once into Ray's object store, from where the tasks of all epochs and ranks read it without a
    copy. Worth it where the store fits into the cluster's object memory; Ray spills to disk what does not."""

    @ray.remote(num_cpus=cpus_a_task)
    def decode(tile_id: str) -> Any:
        tile = reader(tile_id)
        return DecodedTile(tile.series(), tile.cloud_counts, tile.source_counts)

    return {tile_id: decode.remote(tile_id) for tile_id in tile_ids}


@lru_cache(maxsize=1)
def silence() -> None:
    """Ray Data's own log lines and bars say nothing to a user who follows a training run."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False

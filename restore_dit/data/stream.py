"""Planned examples through Ray Data: read, decoded and cut in tasks, delivered in plan order to a training worker.

A task makes one block: some examples of one micro-batch, as stacked columns. The information about the run that it
needs (plan, manifest, configuration) amounts to megabytes for a large store; it is put into the object store once and
unpickled once per process, where the tiles' indexes are cached too. A block passes through the object store unchanged,
and a training worker that uses micro-batches of one block copies nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import ray
import ray.data
from ray.data.block import BlockAccessor, BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from restore_dit.config import WorkersConfig
from restore_dit.data.examples.cutting import Tile
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.data.examples.maker import ExampleMaker
from restore_dit.data.examples.plan import EpochPlan, PlannedExample
from restore_dit.data.loader import TileReader
from restore_dit.private_interfaces import call_at_each_step

EXAMPLES_A_SEGMENT = 16384
"""Examples per rank covered by one Ray dataset: enough to hide its start-up, few enough to plan at once."""

MAX_EXAMPLES_A_BLOCK = 8
"""Maximum number of examples that one task makes: about 50 MB at the published size, the unit of scheduling and of
storage in the object store."""

QUICK_SECONDS, MAX_QUICK_STEPS, PAUSE_SECONDS = 0.01, 10, 0.05
"""Ray Data's execution loop waits for tasks. While the stream is ahead of training there is nothing to wait for, and
the loop would keep a core busy in the training process itself; so after this many quick iterations in a row, each one
is followed by a pause."""

Decoded = dict[str, Any]
"""Tile id → reference to the decoded tile in Ray's object store."""


class LoopThrottle:
    """Throttles Ray Data's execution loop, which calls it at each step."""

    def __init__(self) -> None:
        self._step_began = time.monotonic()
        self._quick_steps = 0

    def __call__(self) -> None:
        """Pauses if the loop had nothing to wait for."""
        quick = time.monotonic() - self._step_began < QUICK_SECONDS
        self._quick_steps = self._quick_steps + 1 if quick else 0
        if self._quick_steps > MAX_QUICK_STEPS:
            time.sleep(PAUSE_SECONDS)
        self._step_began = time.monotonic()


@dataclass(frozen=True)
class StreamSource:
    """What every task of a run needs."""

    plan: EpochPlan
    reader: TileReader
    maker: ExampleMaker

    def block(self, planned: list[PlannedExample], decoded: Decoded | None = None) -> dict[str, Any]:
        """The examples, stacked; booleans as bytes, since Arrow would otherwise pack them into bits and unpack them
        again."""
        tile_ids = [entry.tile_id for entry in planned]
        tiles: Sequence[Tile] = (
            self.reader.all(tile_ids) if decoded is None else ray.get([decoded[tile_id] for tile_id in tile_ids])
        )
        columns = self.maker.training(tiles, planned, threads=self.reader.threads if decoded is None else 1)
        return {name: values.view(np.uint8) if values.dtype == bool else values for name, values in columns.items()}


@dataclass(frozen=True)
class Share:
    """A rank's part of the steps from `start` on, divided into blocks of `block_size` examples, a divisor of the
    micro-batch size."""

    rank: int
    world_size: int
    micro_batch_size: int
    block_size: int
    start: int

    def blocks_a_step(self, plan: EpochPlan) -> int:
        """Number of blocks of this rank per optimiser step."""
        return plan.batch_size // self.world_size // self.block_size

    def planned(self, plan: EpochPlan, block: int) -> list[PlannedExample]:
        """The examples of a block, numbered from `start`."""
        step, index = divmod(block, self.blocks_a_step(plan))
        micro_batches = plan.share(self.start + step, self.rank, self.world_size, self.micro_batch_size)
        micro, position = divmod(index * self.block_size, self.micro_batch_size)
        return micro_batches[micro][position : position + self.block_size]


class Blocks(Datasource):
    """The blocks of a rank's share as a Ray Data source: one read task each, in order."""

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
        """The name that Ray displays."""
        return "Examples"

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown: it depends on the tiles."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """One task per block, regardless of `parallelism`."""
        metadata = BlockMetadata(num_rows=self.share.block_size, size_bytes=None, exec_stats=None)
        return [ReadTask(self._task(block), metadata) for block in range(self.count)]

    def _task(self, block: int) -> Callable[[], Iterable[Any]]:
        planned = self.share.planned(self.plan, block)
        # Passed with the task, not with the run: a process's cache must not keep all tiles alive in the object store.
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
) -> Generator[list[dict[str, Any]], None, None]:
    """Yields, for each optimiser step from `start` to `stop`, this rank's micro-batches as stacked columns, in plan
    order.

    `start` is the last saved step: examples that were prefetched but not computed are made again. Ray Data uses this
    rank's share of the CPUs that all training workers together (`cpus_for_training`) leave free. `source` refers to a
    `StreamSource`; with `decoded` (see `cache_decoded`) no tile is read.
    """
    # Ray Data would take every free CPU. With a share for each rank, no rank starves the others.
    silence()
    cpus = max((ray.cluster_resources().get("CPU", 0) - cpus_for_training) / world_size, cpus_a_task)
    sizes = range(1, min(micro_batch_size, MAX_EXAMPLES_A_BLOCK) + 1)
    block_size = max(size for size in sizes if micro_batch_size % size == 0)
    steps_a_segment = max(1, EXAMPLES_A_SEGMENT * world_size // plan.batch_size)
    for first in range(start, stop, steps_a_segment):
        share = Share(rank, world_size, micro_batch_size, block_size, first)
        blocks_source = Blocks(source, plan, share, min(steps_a_segment, stop - first), decoded)
        dataset = ray.data.read_datasource(blocks_source, override_num_blocks=blocks_source.count, num_cpus=cpus_a_task)
        dataset.context.target_max_block_size = None  # blocks must not be split: they are counted
        call_at_each_step(dataset.context, LoopThrottle)
        options = dataset.context.execution_options
        # Otherwise, blocks arrive as they are finished, and the run would depend on the speed of the nodes.
        options.preserve_order = True
        options.resource_limits = options.resource_limits.copy(cpu=cpus)
        blocks: list[dict[str, Any]] = []
        for block in dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=2):
            # A block that Ray Data cut would shift all later examples by some places, without an error.
            if len(block["weight"]) != block_size:
                raise RuntimeError(f"Ray Data cut a block of {block_size} examples to {len(block['weight'])}")
            blocks.append(block)
            if len(blocks) == share.blocks_a_step(plan):
                yield _micro_batches(blocks, micro_batch_size // block_size)
                blocks = []


def worker_batches(
    plan: EpochPlan,
    reader: TileReader,
    maker: ExampleMaker,
    micro_batch_size: int,
    workers: WorkersConfig,
    decoded: Decoded | None,
) -> Callable[..., Generator[list[dict[str, Any]], None, None]]:
    """`step_batches` for the workers of a training, which call it with (start, stop, rank=, world_size=)."""
    return partial(
        step_batches,
        ray.put(StreamSource(plan, reader, maker)),
        plan,
        micro_batch_size=micro_batch_size,
        cpus_for_training=workers.count * workers.cpus_each,
        cpus_a_task=workers.data_cpus,
        decoded=decoded,
    )


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
    """Decodes every tile once into Ray's object store, from which the tasks of all epochs and ranks read without
    copying. Worthwhile if the store fits into the cluster's object memory; Ray spills the rest to disk."""

    @ray.remote(num_cpus=cpus_a_task)
    def decode(tile_id: str) -> Any:
        tile = reader(tile_id)
        return DecodedTile(tile.series(), tile.cloud_counts, tile.source_counts)

    return {tile_id: decode.remote(tile_id) for tile_id in tile_ids}


@lru_cache(maxsize=1)
def silence() -> None:
    """Turns off Ray Data's own log lines and progress bars, which are irrelevant to a user who follows a training
    run."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False

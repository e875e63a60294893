"""The plan of an epoch: a seeded order of examples, and which rank computes which of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from restore_dit.data.randomness import generator


@dataclass(frozen=True)
class PlannedExample:
    """One planned example. `draw` numbers the examples from one tile within an epoch; `weight` is 0 for the padding of
    a short last step."""

    epoch: int
    tile_id: str
    draw: int
    weight: float


class EpochPlan:
    """Optimiser step k of an epoch computes entries k·G … (k+1)·G for a global batch of G, whatever the number of
    workers."""

    def __init__(self, tile_ids: Sequence[str], examples_per_tile: int, batch_size: int, seed: int) -> None:
        self.tile_ids = tuple(tile_ids)
        self.examples_per_tile = examples_per_tile
        self.batch_size = batch_size
        self.seed = seed
        # A cache per instance: ranks go through one epoch after another.
        self._order = lru_cache(maxsize=2)(self._compute_order)

    @property
    def examples_per_epoch(self) -> int:
        """Number of real examples per epoch."""
        return len(self.tile_ids) * self.examples_per_tile

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimiser steps per epoch, including the short last one."""
        return -(-self.examples_per_epoch // self.batch_size)

    def epoch(self, step: int) -> int:
        """The epoch that the global optimiser step `step` belongs to."""
        return step // self.steps_per_epoch

    def step(self, step: int) -> list[PlannedExample]:
        """The `batch_size` examples of a global optimiser step; padding repeats the step's own examples with weight
        0."""
        epoch, position = divmod(step, self.steps_per_epoch)
        chosen = self._order(epoch)[position * self.batch_size : (position + 1) * self.batch_size]
        return [
            PlannedExample(epoch, *chosen[index % len(chosen)], weight=float(index < len(chosen)))
            for index in range(self.batch_size)
        ]

    def share(self, step: int, rank: int, world_size: int, micro_batch_size: int) -> list[list[PlannedExample]]:
        """The micro-batches of a step that `rank` computes, in order. Every rank gets the same number."""
        entries = self.step(step)
        stride = world_size * micro_batch_size
        starts = range(rank * micro_batch_size, self.batch_size, stride)
        return [entries[start : start + micro_batch_size] for start in starts]

    def _compute_order(self, epoch: int) -> list[tuple[str, int]]:
        order = generator(self.seed, "epoch plan", epoch).permutation(self.examples_per_epoch)
        return [(self.tile_ids[index // self.examples_per_tile], index % self.examples_per_tile) for index in order]

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "_order"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=2)(self._compute_order)

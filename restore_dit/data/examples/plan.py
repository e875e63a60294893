"""Which examples a training sees: the split of tiles and dates into training, validation and test, and the plan of an
epoch, a seeded order of examples that says which rank computes which of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from restore_dit.config import SplitConfig
from restore_dit.data.randomness import generator
from restore_dit.errors import UserError

Part = Literal["train", "validation", "test", "all"]


@dataclass(frozen=True)
class TileSplit:
    """Tile ids of each part, sorted. With a split by dates, every part contains all tiles."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def part(self, name: Part) -> tuple[str, ...]:
        """The tiles of one part."""
        everything = tuple(sorted({*self.train, *self.validation, *self.test}))
        return {"train": self.train, "validation": self.validation, "test": self.test, "all": everything}[name]


def split_tiles(folds: Mapping[str, int | None], config: SplitConfig, seed: int) -> TileSplit:
    """The split of a store's tiles.

    Args:
        folds: tile id → its fold, or None if the source has none.

    Raises:
        UserError: a split by folds without folds, or no training tiles left.
    """
    tiles = sorted(folds)
    if config.by == "dates":
        return TileSplit(tuple(tiles), tuple(tiles) if config.validation_fraction else (), tuple(tiles))
    if config.by == "folds":
        without = [tile for tile in tiles if folds[tile] is None]
        if without:
            raise UserError(f"data.split.by=folds: tile {without[0]} has no fold; use data.split.by=tiles")
        test = [tile for tile in tiles if folds[tile] in config.test_folds]
    else:
        test = _seeded_share(tiles, config.test_fraction, seed, "test")
    rest = [tile for tile in tiles if tile not in set(test)]
    validation = _seeded_share(rest, config.validation_fraction, seed, "validation")
    train = [tile for tile in rest if tile not in set(validation)]
    if not train:
        raise UserError(
            f"data.split: no tile of {len(tiles)} is left to train on; lower test_fraction and validation_fraction, "
            "or split a single site with data.split.by=dates"
        )
    return TileSplit(tuple(train), tuple(validation), tuple(test))


def frames_of_part(
    clear: NDArray[np.bool_], part: Part, config: SplitConfig, seed: int, tile_id: str
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which frames of a tile a part may show, and which of them it may score: bool [T] each. `clear` [T] marks the
    frames that may be targets at all.

    With a split by tiles or folds, all frames are shown and the clear ones scored. With a split by dates, the last
    `test_fraction` of the acquisitions is the test period. A seeded share of the clear frames before it is held out for
    validation: training neither shows nor scores them, while validation shows all frames before the test period and
    scores only those held out.
    """
    everything = np.ones(len(clear), bool)
    if config.by != "dates" or part == "all":
        return everything, clear
    first_test = len(clear) - round(config.test_fraction * len(clear))
    before_test = np.arange(len(clear)) < first_test
    if part == "test":
        return ~before_test, clear & ~before_test
    candidates = np.flatnonzero(clear & before_test)
    count = round(config.validation_fraction * len(candidates))
    held_out = np.zeros(len(clear), bool)
    held_out[generator(seed, "validation dates", tile_id).permutation(candidates)[:count]] = True
    if part == "validation":
        return before_test, held_out
    return before_test & ~held_out, clear & before_test & ~held_out


def _seeded_share(tiles: list[str], fraction: float, seed: int, purpose: str) -> list[str]:
    """About `fraction` of the tiles, at least one. Each tile is decided independently, so that a growing store never
    moves tiles from one part to another."""
    if not tiles or fraction == 0:
        return []
    draws = {tile: generator(seed, f"{purpose} tile", tile).random() for tile in tiles}
    return [tile for tile in tiles if draws[tile] < fraction] or [min(tiles, key=draws.__getitem__)]


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

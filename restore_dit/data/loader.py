"""Planned examples in this very process: what a run without Ray, and a validation, read from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from restore_dit.config import DataConfig
from restore_dit.data.examples.batch import stack
from restore_dit.data.examples.maker import Example, ExampleMaker
from restore_dit.data.examples.plan import EpochPlan, PlannedExample
from restore_dit.data.store.tile_store import StoredTile, TileStore

Item = TypeVar("Item")
Result = TypeVar("Result")


class TileReader:
    """Loads tiles of a store, keeping the last few (still compressed) at hand."""

    def __init__(self, store: TileStore, radar_tracks: tuple[str, ...], keep: int = 64) -> None:
        self.store = store
        self.radar_tracks = radar_tracks
        self.keep = keep
        self._tiles: OrderedDict[str, StoredTile] = OrderedDict()

    def __call__(self, tile_id: str) -> StoredTile:
        """The tile, from memory or from the store."""
        tile = self._tiles.pop(tile_id, None) or self.store.load(tile_id, radar_tracks=self.radar_tracks)
        self._tiles[tile_id] = tile
        if len(self._tiles) > self.keep:
            self._tiles.popitem(last=False)
        return tile

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tiles": OrderedDict()}


def tile_reader(store: TileStore, config: DataConfig, keep: int = 64) -> TileReader:
    """Reads no more of a tile than examples of this configuration use."""
    return TileReader(store, (config.radar.track,) if config.radar else (), keep)


def step_batches(
    plan: EpochPlan, reader: TileReader, maker: ExampleMaker, start: int, stop: int, micro_batch_size: int
) -> Iterator[list[dict[str, Any]]]:
    """For each optimiser step from `start` to `stop` its micro-batches as stacked columns, prepared one step ahead."""

    def build(step: int) -> list[dict[str, Any]]:
        def example(planned: PlannedExample) -> Example:
            return maker.training(reader(planned.tile_id), planned)

        return [stack([example(entry) for entry in micro]) for micro in plan.share(step, 0, 1, micro_batch_size)]

    return ahead(build, range(start, stop))


def ahead(build: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`build(item)` for each item in order, the next one being built while the caller works on the last."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting: Future[Result] | None = None
        for item in items:
            future = pool.submit(build, item)
            if waiting is not None:
                yield waiting.result()
            waiting = future
        if waiting is not None:
            yield waiting.result()

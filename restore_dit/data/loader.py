"""Planned examples made in the current process: for training without Ray, and for validation."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

from restore_dit.config import DataConfig
from restore_dit.data.examples.cutting import BOTH_TRACKS
from restore_dit.data.examples.maker import ExampleMaker
from restore_dit.data.examples.plan import EpochPlan
from restore_dit.data.store.masks import CLOUDS, SOURCE_CLOUDS, TRUE_CLOUDS
from restore_dit.data.store.tile_store import StoredTile, TileStore

KEPT_TILES = 512
"""Maximum number of open tiles that a process caches."""

_READS_AT_ONCE = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


class TileReader:
    """Opens tiles of a store and caches the most recent ones: their dates, the positions of their frames, and their
    masks, about 50 to 100 kB for a tile of PASTIS-R. Frames are read anew each time. Threads may share a reader."""

    def __init__(
        self,
        store: TileStore,
        radar_tracks: tuple[str, ...] | None,
        keep: int = KEPT_TILES,
        layers: tuple[str, ...] = (CLOUDS,),
    ) -> None:
        self.store = store
        self.radar_tracks = radar_tracks
        self.layers = layers
        self.keep = keep
        self._tiles: OrderedDict[str, StoredTile] = OrderedDict()
        self._lock = Lock()

    def __call__(self, tile_id: str) -> StoredTile:
        """The tile, from the cache or from the store."""
        return self._kept(tile_id, self._tiles.get(tile_id) or self._load(tile_id))

    def all(self, tile_ids: Sequence[str]) -> list[StoredTile]:
        """Several tiles; those not cached are opened in parallel if the store is remote."""
        unknown = [tile_id for tile_id in dict.fromkeys(tile_ids) if tile_id not in self._tiles]
        if len(unknown) > 1 and self.threads > 1:
            with ThreadPoolExecutor(self.threads) as pool:
                opened = dict(zip(unknown, pool.map(self._load, unknown), strict=True))
            return [self._kept(tile_id, opened.get(tile_id) or self(tile_id)) for tile_id in tile_ids]
        return [self(tile_id) for tile_id in tile_ids]

    def _kept(self, tile_id: str, tile: StoredTile) -> StoredTile:
        with self._lock:
            self._tiles[tile_id] = tile
            self._tiles.move_to_end(tile_id)
            while len(self._tiles) > self.keep:
                self._tiles.popitem(last=False)
        return tile

    @property
    def threads(self) -> int:
        """Number of concurrent reads: a server has latency, but answers many requests at once."""
        return 1 if self.store.location.is_local else _READS_AT_ONCE

    def _load(self, tile_id: str) -> StoredTile:
        return self.store.load(tile_id, radar_tracks=self.radar_tracks, layers=self.layers)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_tiles", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _tiles=OrderedDict(), _lock=Lock())


def tile_reader(store: TileStore, config: DataConfig, keep: int = KEPT_TILES) -> TileReader:
    """A reader of only those parts of a tile that examples of this configuration use."""
    tracks: tuple[str, ...] | None = ()
    if config.radar is not None:
        tracks = None if config.radar.track == BOTH_TRACKS else (config.radar.track,)
    layers = {CLOUDS: True, SOURCE_CLOUDS: config.targets.also_by_source, TRUE_CLOUDS: config.truly_clear}
    return TileReader(store, tracks, keep, tuple(layer for layer, is_used in layers.items() if is_used))


def step_batches(
    plan: EpochPlan,
    reader: TileReader,
    maker: ExampleMaker,
    start: int,
    stop: int,
    micro_batch_size: int,
    *,
    threads: int = 1,
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = lambda columns: columns,
) -> Generator[list[dict[str, Any]], None, None]:
    """Yields, for each optimiser step from `start` to `stop`, its micro-batches as stacked columns, in order. `threads`
    threads make the next steps, one each, and apply `prepare` to every micro-batch."""

    def build(step: int) -> list[dict[str, Any]]:
        micro_batches = plan.share(step, 0, 1, micro_batch_size)
        return [
            prepare(maker.training(reader.all([entry.tile_id for entry in micro]), micro, threads=reader.threads))
            for micro in micro_batches
        ]

    return ahead(build, range(start, stop), threads)


def ahead(build: Callable[[Item], Result], items: Iterable[Item], threads: int = 1) -> Generator[Result, None, None]:
    """Yields `build(item)` for each item in order, while `threads` threads build those of the next items, one each.

    An error is raised in the place of the result. After it, and when the generator is closed, no thread is left.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(build, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

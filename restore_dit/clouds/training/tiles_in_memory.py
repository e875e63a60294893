"""A cache of labelled tiles in memory: all tiles if they fit, otherwise one part at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from restore_dit.clouds.training.labelled_tile import LabelledTile, read_labelled_tile
from restore_dit.clouds.training.split import LabelledStore
from restore_dit.config.cloud_training import CloudTrainingConfig
from restore_dit.data.randomness import generator

_GIGABYTE = 1e9


class TilesInMemory:
    """Reads labelled tiles of the stores and caches the most recently used ones, up to `memory_gigabytes`."""

    def __init__(self, stores: Sequence[LabelledStore], config: CloudTrainingConfig) -> None:
        self.stores = stores
        self.config = config
        self._room = config.memory_gigabytes * _GIGABYTE
        self._tiles: OrderedDict[tuple[int, str], LabelledTile] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()  # one thread makes examples while another validates

    def __call__(self, store: int, tile_id: str) -> LabelledTile:
        """Tile `tile_id` of the store with this index.

        Raises:
            UserError: a file is missing or damaged.
        """
        with self._lock:
            tile = self._tiles.pop((store, tile_id), None)
            if tile is None:
                tile = read_labelled_tile(self.stores[store].store, tile_id, self.config.labels, self.config.network)
                self._bytes += tile.bytes
            self._tiles[store, tile_id] = tile
            while self._bytes > self._room and len(self._tiles) > 1:
                self._bytes -= self._tiles.popitem(last=False)[1].bytes
            return tile

    def parts(self, store: int, share: float) -> list[tuple[str, ...]]:
        """The training tiles of a store in random (seeded) order, divided into parts that fit into a `share` of the
        memory. If there are several parts, each is used for `part_steps` steps before the next.

        All frames of a tile are read; a pixel takes 2 bytes per channel and 1 byte for its label.
        """
        of = self.stores[store]
        room = self._room * share
        order = generator(self.config.seed, "order of cloud tiles", store).permutation(sorted(of.training))
        parts: list[list[str]] = [[]]
        filled = 0.0
        for tile_id in map(str, order):
            height, width = of.sizes[tile_id]
            frames = of.store.record(tile_id).optical.frames
            size = frames * height * width * (2 * self.config.network.channels + 1)
            if parts[-1] and filled + size > room:
                parts.append([])
                filled = 0.0
            parts[-1].append(tile_id)
            filled += size
        return [tuple(part) for part in parts]

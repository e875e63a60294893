"""A tile for training, with the network's input for each frame and the labels; and a cache of such tiles in memory: all
if they fit, otherwise one part at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from restore_dit.clouds.network.inputs import (
    known_bands,
    network_input,
    network_size,
    reference_of,
    resample,
    without_data,
)
from restore_dit.clouds.training.split import LabelledStore
from restore_dit.config.cloud_training import CloudTrainingConfig
from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.data.randomness import generator
from restore_dit.data.store.masks import MaskOrigin
from restore_dit.data.store.tile_store import TileStore
from restore_dit.series import CLEAR, CLOUD_NO_DATA, NO_DATA, REFLECTANCE_SCALE, TileSeries

KINDS = ("mixed", "clear", "covered", "unknown")
"""Kinds of frames: mixed, almost entirely clear, almost entirely covered by cloud or shadow, without labels."""

_HARDLY = 0.02
"""Largest share of the other class in an almost entirely clear or covered frame."""


@dataclass(frozen=True)
class LabelledTile:
    """A tile on the network's grid: `inputs` int16 [T, channels, H, W], the network's input × 10000 with 0 for no data;
    `labels` uint8 [T, H, W]; `dates` [T]; `bands`, the network's bands that the tile has."""

    inputs: NDArray[np.int16]
    labels: NDArray[np.uint8]
    dates: NDArray[np.datetime64]
    bands: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Memory of the arrays, in bytes."""
        return self.inputs.nbytes + self.labels.nbytes

    @cached_property
    def kinds(self) -> NDArray[np.intp]:
        """Index into `KINDS` of each frame, [T]."""
        known = (self.labels != CLOUD_NO_DATA).sum(axis=(1, 2))
        clear = (self.labels == CLEAR).sum(axis=(1, 2))
        share = clear / np.maximum(known, 1)
        return np.select([known == 0, share > 1 - _HARDLY, share < _HARDLY], [3, 1, 2], 0)


def read_labelled_tile(store: TileStore, tile_id: str, labels: str, network: CloudNetworkConfig) -> LabelledTile:
    """Reads a tile with its masks of the method `labels`.

    Raises:
        UserError: the masks or a required band are missing, or a file is missing or damaged.
    """
    series = store.load(tile_id, radar_tracks=(), masks=MaskOrigin(method=labels).layer).series()
    return labelled_tile(series, network)


def labelled_tile(series: TileSeries, network: CloudNetworkConfig) -> LabelledTile:
    """A series with masks as a labelled tile on the network's grid. Pixels without data in a band get no label.

    The clear reference is computed from the whole series, without the labels.
    """
    assert series.clouds is not None
    optical = series.optical
    reference = reference_of(series) if network.reference else None
    size = network_size(series.size, series.georeference, network)
    inputs = np.empty((len(optical), network.channels, *size), np.int16)
    for frame in range(len(optical)):  # one at a time, because a whole series as floats would be large
        one = slice(frame, frame + 1)
        read = resample(
            network_input(
                optical.values[one], optical.bands, network, reference if reference is None else reference[one]
            ),
            size,
        )
        stored = (read * REFLECTANCE_SCALE).round().clamp(int(NO_DATA) + 1, np.iinfo(np.int16).max)
        inputs[frame] = stored[0].numpy()
    labels = np.where(without_data(optical.values, optical.bands, network), CLOUD_NO_DATA, series.clouds)
    return LabelledTile(inputs, nearest(labels, size), optical.dates, known_bands(optical.bands, network))


def nearest(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Labels [..., H, W] resampled to another grid of the same extent by nearest neighbour."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for new, old in zip(size, labels.shape[-2:], strict=True)
    )
    return np.ascontiguousarray(labels[..., rows[:, None], columns])


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

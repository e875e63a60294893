"""A tile for training: the network's input for each frame, and the labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
from restore_dit.config.clouds import CloudNetworkConfig
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

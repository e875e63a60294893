"""A tile as training sees it: what the network reads of each frame, and what it should say."""

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
"""Of frames: both clear and hidden land, hardly any that is hidden, hardly any that is clear, no label at all."""

_HARDLY = 0.02


@dataclass(frozen=True)
class LabelledTile:
    """On the network's grid: `inputs` int16 [T, channels, H, W], what the network reads × 10000 with 0 where nothing is
    known; `labels` uint8 [T, H, W]; `dates` [T]; `bands`, those of the network's that the tile has."""

    inputs: NDArray[np.int16]
    labels: NDArray[np.uint8]
    dates: NDArray[np.datetime64]
    bands: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return self.inputs.nbytes + self.labels.nbytes

    @cached_property
    def kinds(self) -> NDArray[np.intp]:
        """Which of `KINDS` each frame is, [T]."""
        known = (self.labels != CLOUD_NO_DATA).sum(axis=(1, 2))
        clear = (self.labels == CLEAR).sum(axis=(1, 2))
        share = clear / np.maximum(known, 1)
        return np.select([known == 0, share > 1 - _HARDLY, share < _HARDLY], [3, 1, 2], 0)


def read_labelled_tile(store: TileStore, tile_id: str, labels: str, network: CloudNetworkConfig) -> LabelledTile:
    """A tile of a store with the masks that came with it, by the method `labels`.

    Raises:
        UserError: no such masks, a band that the network needs, a file that is missing or damaged.
    """
    series = store.load(tile_id, radar_tracks=(), masks=MaskOrigin(method=labels).layer).series()
    return labelled_tile(series, network)


def labelled_tile(series: TileSeries, network: CloudNetworkConfig) -> LabelledTile:
    """What the network reads of a series with masks, on the network's grid; where a band has no data there is no label.

    The clear reference is that of the whole series, and knows nothing of the labels.
    """
    assert series.clouds is not None
    optical = series.optical
    reference = reference_of(series) if network.reference else None
    size = network_size(series.size, series.georeference, network)
    inputs = np.empty((len(optical), network.channels, *size), np.int16)
    for frame in range(len(optical)):  # a frame at a time: as floats a whole series would be large
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
    """Labels [..., H, W] on another grid of the same extent: to each pixel that of the one in which its centre lies."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for new, old in zip(size, labels.shape[-2:], strict=True)
    )
    return np.ascontiguousarray(labels[..., rows[:, None], columns])

"""A tile in memory that answers like a stored one: what the cache of decoded tiles holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restore_dit.series import Acquisitions, TileSeries


@dataclass(frozen=True)
class DecodedSeries:
    """One sensor's series; see `StoredSeries`."""

    acquisitions: Acquisitions

    @property
    def dates(self) -> NDArray[np.datetime64]:
        """Acquisition dates [T]."""
        return self.acquisitions.dates

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, C, H, W)."""
        return self.acquisitions.values.shape

    def decode(
        self, frame_indices: NDArray[np.integer] | None = None, bands: tuple[str, ...] | None = None
    ) -> NDArray[np.int16]:
        """Chosen frames and bands, int16 [n, C, H, W]."""
        values = self.acquisitions.values if frame_indices is None else self.acquisitions.values[frame_indices]
        if bands is None or bands == self.acquisitions.bands:
            return values
        return values[:, [self.acquisitions.bands.index(band) for band in bands]]


@dataclass(frozen=True)
class DecodedLayer:
    """A named layer; see `StoredLayer`."""

    values: NDArray[np.uint8]

    def decode(self, frame_indices: NDArray[np.integer] | None = None) -> NDArray[np.uint8]:
        """Chosen frames, uint8 [n, H, W]."""
        return self.values if frame_indices is None else self.values[frame_indices]


class DecodedTile:
    """A `TileSeries` with the reading interface of `StoredTile`."""

    def __init__(self, series: TileSeries) -> None:
        self.tile_id = series.tile_id
        self.optical = DecodedSeries(series.optical)
        self.radar = {track: DecodedSeries(acquisitions) for track, acquisitions in series.radar.items()}
        self.clouds = None if series.clouds is None else DecodedLayer(series.clouds)

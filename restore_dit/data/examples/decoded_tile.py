"""A tile in memory with the interface of a stored one, as held in the cache of decoded tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.store.manifest import BAD_FRAMES
from restore_dit.data.store.masks import SOURCE_CLOUDS, TRUE_CLOUDS, CloudCounts, cloud_counts
from restore_dit.errors import UserError
from restore_dit.series import Acquisitions, TileSeries


@dataclass(frozen=True)
class DecodedFrames:
    """Frames of one sensor or layer, [T, …]; see `StoredFrames`."""

    values: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """[T, …]."""
        return self.values.shape

    def decode(self, frame_indices: NDArray[np.integer] | None = None) -> NDArray[Any]:
        """Values of the given frames (default: all)."""
        return self.values if frame_indices is None else self.values[frame_indices]

    def frames(self, indices: Sequence[int] | NDArray[np.integer]) -> Iterator[NDArray[Any]]:
        """The given frames, one after another."""
        return (self.values[index] for index in indices)


@dataclass(frozen=True)
class DecodedSeries(DecodedFrames):
    """One sensor's series; see `StoredSeries`."""

    dates: NDArray[np.datetime64]
    bands: tuple[str, ...]

    @classmethod
    def of(cls, acquisitions: Acquisitions) -> DecodedSeries:
        """The series of these acquisitions."""
        return cls(acquisitions.values, acquisitions.dates, acquisitions.bands)

    def channels(self, bands: Sequence[str]) -> slice | list[int]:
        """Channel indices of the given bands; a full slice if they are all channels in order.

        Raises:
            UserError: the series lacks a band.
        """
        missing = [band for band in bands if band not in self.bands]
        if missing:
            raise UserError(f"no band {', '.join(missing)}; there are {', '.join(self.bands)}")
        if tuple(bands) == self.bands:
            return slice(None)
        return [self.bands.index(band) for band in bands]

    def decode(
        self, frame_indices: NDArray[np.integer] | None = None, bands: Sequence[str] | None = None
    ) -> NDArray[np.int16]:
        """The given frames and bands (default: all), int16 [n, C, H, W]."""
        values = super().decode(frame_indices)
        return values if bands is None else values[:, self.channels(bands)]


class DecodedTile:
    """A `TileSeries` with the reading interface of `StoredTile`. `cloud_counts` and `source_counts` may be passed if
    already known."""

    def __init__(
        self,
        series: TileSeries,
        cloud_counts: CloudCounts | None = None,
        source_counts: CloudCounts | None = None,
    ) -> None:
        self.tile_id = series.tile_id
        self._acquisitions = series.optical
        self._known_counts = cloud_counts
        self._known_source_counts = source_counts
        self.optical = DecodedSeries.of(series.optical)
        self.radar = {track: DecodedSeries.of(acquisitions) for track, acquisitions in series.radar.items()}
        self.clouds = None if series.clouds is None else DecodedFrames(series.clouds)
        source_clouds = series.layers.get(SOURCE_CLOUDS)
        self.source_clouds = None if source_clouds is None else DecodedFrames(source_clouds)
        true_clouds = series.layers.get(TRUE_CLOUDS)
        self.true_clouds = None if true_clouds is None else DecodedFrames(true_clouds)
        bad_frames = series.layers.get(BAD_FRAMES)
        self.bad_frames = None if bad_frames is None else bad_frames.astype(bool)

    @cached_property
    def cloud_counts(self) -> CloudCounts | None:
        """Statistics of the masks in use."""
        if self.clouds is None or self._known_counts is not None:
            return self._known_counts
        return cloud_counts(self._acquisitions, self.clouds.values)

    @cached_property
    def source_counts(self) -> CloudCounts | None:
        """Statistics of the masks that came with the tile."""
        if self.source_clouds is None or self._known_source_counts is not None:
            return self._known_source_counts
        return cloud_counts(self._acquisitions, self.source_clouds.values)

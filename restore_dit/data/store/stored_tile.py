"""A tile as opened from a store: its metadata are known, its pixels are read and decoded only when used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from restore_dit.data import storage
from restore_dit.data.store.frames import FrameIndex, decode_frame, frame_checksum
from restore_dit.data.store.manifest import BAD_FRAMES
from restore_dit.data.store.masks import CLOUDS, SOURCE_CLOUDS, TRUE_CLOUDS, CloudCounts
from restore_dit.errors import UserError
from restore_dit.series import Acquisitions, Georeference, TileSeries

FrameIndices = Sequence[int] | NDArray[np.integer] | NDArray[np.bool_] | slice


@dataclass(frozen=True)
class StoredFrames:
    """Frames of one sensor or layer in a file of `size` bytes. `content` is the file if it was read as a whole."""

    location: storage.Location
    size: int
    index: FrameIndex
    content: pa.Buffer | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """[T, …], with the dimensions of a frame after T."""
        return self.index.shape

    @property
    def dates(self) -> NDArray[np.datetime64]:
        """datetime64[D] [T], or empty for a layer without time."""
        return self.index.dates

    def __len__(self) -> int:
        return self.shape[0]

    def encoded(self, indices: Sequence[int] | NDArray[np.integer]) -> list[pa.Buffer]:
        """The compressed bytes of the given frames, verified against their checksums.

        Raises:
            UserError: the file is missing or damaged, or storage fails.
        """
        ranges = [(int(self.index.offsets[index]), int(self.index.lengths[index])) for index in indices]
        if self.content is not None:
            buffers = [self.content.slice(offset, length) for offset, length in ranges]
        else:
            buffers = storage.read_ranges(self.location, ranges, self.size)
        for index, buffer in zip(indices, buffers, strict=True):
            if frame_checksum(buffer) != self.index.checksums[index]:
                raise self._damaged("bytes do not match their checksum")
        return buffers

    def decode(self, frame_indices: FrameIndices | None = None) -> NDArray[Any]:
        """Values of the given frames (default: all) in the order requested; data with fewer than three dimensions are
        returned as a whole.

        Raises:
            UserError: a frame is damaged, or storage fails.
        """
        if len(self.shape) < 3:
            values = np.empty(self.shape, self.index.dtype)
            self._decode_into([0], values[None])
            return values
        indices = np.arange(len(self))
        if frame_indices is not None:
            indices = indices[np.asarray(frame_indices, int) if _is_empty(frame_indices) else frame_indices]
        values = np.empty((len(indices), *self.shape[1:]), self.index.dtype)
        self._decode_into(indices, values)
        return values

    def frames(self, indices: Sequence[int] | NDArray[np.integer]) -> Iterator[NDArray[Any]]:
        """Yields the given frames one after another, each in the same memory: use a frame before requesting the next.

        Raises:
            UserError: a frame is damaged, or storage fails.
        """
        frame = np.empty(self.shape[1:], self.index.dtype)
        for buffer in self.encoded(indices):
            self._decode_frame(buffer, frame)
            yield frame

    def _decode_into(self, indices: Sequence[int] | NDArray[np.integer], frames: NDArray[Any]) -> None:
        for buffer, frame in zip(self.encoded(indices), frames, strict=True):
            self._decode_frame(buffer, frame)

    def _decode_frame(self, buffer: pa.Buffer, frame: NDArray[Any]) -> None:
        try:
            decode_frame(buffer, frame)
        except (OSError, ValueError) as error:
            raise self._damaged(error) from None

    def _damaged(self, why: object) -> UserError:
        return UserError(f"{self.location.uri}: damaged frame ({why}); restore the file or ingest the tile again")


def _is_empty(frame_indices: FrameIndices) -> bool:
    return not isinstance(frame_indices, slice) and len(frame_indices) == 0


class StoredLayer(StoredFrames):
    """A named layer, such as `clouds`: `shape` [T, H, W], or any other shape if it does not follow the acquisitions."""


class StoredSeries(StoredFrames):
    """One sensor's series: `shape` [T, C, H, W]."""

    @property
    def bands(self) -> tuple[str, ...]:
        """The names of the C channels."""
        return self.index.bands

    def decode(
        self, frame_indices: FrameIndices | None = None, bands: Sequence[str] | None = None
    ) -> NDArray[np.int16]:
        """Values int16 [n, C, H, W] of the given frames and bands (default: all), in the order requested.

        Raises:
            UserError: the tile lacks a band, or a frame is damaged.
        """
        channels = slice(None) if bands is None else self.channels(bands)
        return super().decode(frame_indices)[:, channels]

    def channels(self, bands: Sequence[str]) -> slice | list[int]:
        """Channel indices of the given bands; a full slice if they are all channels in order.

        Raises:
            UserError: the tile lacks a band.
        """
        missing = [band for band in bands if band not in self.bands]
        if missing:
            raise UserError(f"{self.location.uri}: no band {', '.join(missing)}; it has {', '.join(self.bands)}")
        return slice(None) if tuple(bands) == self.bands else [self.bands.index(band) for band in bands]

    def acquisitions(self) -> Acquisitions:
        """The whole series, decoded."""
        return Acquisitions(self.decode(), self.dates, self.bands)


@dataclass(frozen=True)
class StoredTile:
    """One tile of a store, with those of the requested radar tracks and layers that exist.

    From the manifest: `cloud_counts`, statistics of the masks in use; `source_counts`, statistics of the masks that
    came with the tile; and `bad_frames`, bool [T]; each None if not available.
    """

    tile_id: str
    optical: StoredSeries
    radar: dict[str, StoredSeries]
    layers: dict[str, StoredLayer]
    georeference: Georeference | None
    properties: dict[str, str | int | float] = field(default_factory=dict)
    cloud_counts: CloudCounts | None = None
    source_counts: CloudCounts | None = None
    bad_frames: NDArray[np.bool_] | None = None

    @property
    def clouds(self) -> StoredLayer | None:
        """The cloud masks; None if there are none or the layer was not requested."""
        return self.layers.get(CLOUDS)

    @property
    def source_clouds(self) -> StoredLayer | None:
        """The masks that came with the tile; None if there are none or the layer was not requested."""
        return self.layers.get(SOURCE_CLOUDS)

    @property
    def true_clouds(self) -> StoredLayer | None:
        """The true masks of a simulated tile; None if there are none or the layer was not requested."""
        return self.layers.get(TRUE_CLOUDS)

    def series(self) -> TileSeries:
        """Everything that was loaded, decoded."""
        layers = {name: layer.decode() for name, layer in self.layers.items() if name != CLOUDS}
        if self.bad_frames is not None:
            layers[BAD_FRAMES] = self.bad_frames.astype(np.uint8)
        return TileSeries(
            tile_id=self.tile_id,
            optical=self.optical.acquisitions(),
            clouds=None if self.clouds is None else self.clouds.decode(),
            radar={track: stored.acquisitions() for track, stored in self.radar.items()},
            layers=layers,
            georeference=self.georeference,
            properties=dict(self.properties),
        )

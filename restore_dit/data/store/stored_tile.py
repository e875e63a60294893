"""A tile as a store hands it out: frames still compressed, decoded only as they are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from restore_dit.data.store.frame_codec import decode_frames
from restore_dit.errors import UserError
from restore_dit.series import Acquisitions, Georeference, TileSeries

FrameIndices = Sequence[int] | NDArray[np.integer] | NDArray[np.bool_] | slice


@dataclass(frozen=True)
class StoredFrames:
    """Compressed frames. `shape` is [T, …] with the dimensions of a frame after T; `dates` datetime64[D] [T] or empty
    for a layer without time; `origin` the file they come from, for errors."""

    encoded: list[pa.Buffer]
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    dates: NDArray[np.datetime64]
    origin: str

    def __len__(self) -> int:
        return self.shape[0]

    def _decode(self, frame_indices: FrameIndices | None) -> NDArray[np.generic]:
        indices = np.arange(len(self))
        if frame_indices is not None:
            indices = indices[np.asarray(frame_indices, int) if _is_empty(frame_indices) else frame_indices]
        frames = np.empty((len(indices), *self.shape[1:]), self.dtype)
        try:
            decode_frames([self.encoded[index] for index in indices], frames)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.origin}: damaged frame ({error}); restore the file or ingest the tile again") from (
                None
            )
        return frames


def _is_empty(frame_indices: FrameIndices) -> bool:
    return not isinstance(frame_indices, slice) and len(frame_indices) == 0


class StoredLayer(StoredFrames):
    """A named layer: `shape` [T, H, W]."""

    def decode(self, frame_indices: FrameIndices | None = None) -> NDArray[np.uint8]:
        """The layer's values [n, H, W] of the given frames (all of them), in the order asked for."""
        return self._decode(frame_indices).astype(np.uint8, copy=False)


@dataclass(frozen=True)
class StoredSeries(StoredFrames):
    """One sensor's series: `shape` [T, C, H, W], `bands` the names of the C channels."""

    bands: tuple[str, ...]

    def decode(
        self, frame_indices: FrameIndices | None = None, bands: Sequence[str] | None = None
    ) -> NDArray[np.int16]:
        """Values int16 [n, C, H, W] of the given frames and bands (all of them), in the order asked for.

        Raises:
            UserError: a band that the tile does not have, or a damaged frame.
        """
        frames = self._decode(frame_indices).astype(np.int16, copy=False)
        if bands is None or tuple(bands) == self.bands:
            return frames
        missing = [band for band in bands if band not in self.bands]
        if missing:
            raise UserError(f"{self.origin}: no band {', '.join(missing)}; it has {', '.join(self.bands)}")
        return frames[:, [self.bands.index(band) for band in bands]]

    def acquisitions(self) -> Acquisitions:
        """The whole series, decoded."""
        return Acquisitions(self.decode(), self.dates, self.bands)


@dataclass(frozen=True)
class StoredTile:
    """One tile of a store with the radar tracks and layers that were asked for and exist."""

    tile_id: str
    optical: StoredSeries
    radar: dict[str, StoredSeries]
    layers: dict[str, StoredLayer]
    georeference: Georeference | None
    properties: dict[str, str | int | float] = field(default_factory=dict)

    @property
    def clouds(self) -> StoredLayer | None:
        """The cloud masks, or None where nobody detected them (or nobody asked for the layer)."""
        return self.layers.get("clouds")

    def series(self) -> TileSeries:
        """Everything that was loaded, decoded."""
        return TileSeries(
            tile_id=self.tile_id,
            optical=self.optical.acquisitions(),
            clouds=None if self.clouds is None else self.clouds.decode(),
            radar={track: stored.acquisitions() for track, stored in self.radar.items()},
            georeference=self.georeference,
            properties=dict(self.properties),
        )

"""Cuts selected acquisitions of a tile into the arrays of an example; each frame is decoded separately and written in
place. Chooses the radar acquisitions that are shown with the optical dates, and has the symmetries under which examples
and gaps are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from restore_dit.config import DataConfig
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.data.examples.dilation import hidden_part
from restore_dit.data.store.stored_tile import StoredTile
from restore_dit.errors import UserError
from restore_dit.series import NO_DATA, S1_BANDS, days_since_origin

Tile = StoredTile | DecodedTile
"""A tile in the store, with frames not yet read, or one in memory."""

BOTH_TRACKS = "both"
"""Value of `RadarConfig.track` for all tracks that a tile has."""

DESCENDING = "S1D"

Example = dict[str, Any]
"""One example as arrays, with T frames, S radar acquisitions and h×w pixels.

- `optical`: int16 [T, C, h, w], reflectance × 10000.
- `valid`: bool [T, 1, h, w], pixels whose value is known and scored.
- `gap_mask`: bool [T, 1, h, w], pixels hidden from the model.
- `frame_mask`: bool [T], false for padding.
- `optical_dates`: float32 [T], days since 2018-09-01.
- `bands`: bool [C], bands that the tile has and the example shows.
- `radar`: int16 [S, 2, h, w], dB × 100.
- `radar_dates`: float32 [S]; `radar_mask`: bool [S]; `radar_track`: int64 [S], 0 ascending, 1 descending.
- `veil`: int8 [T, 1, h, w], only with `data.gaps.errors`: see `missed_pieces`; nonzero where a shown pixel differs from
  its value in optical.

Drawn examples also have `quantile` (float32, for the diffusion step), `noise_seed` (int64), `weight` (float32),
`tile_id` (str), and `draw` and `epoch` (int64).
"""


@dataclass(frozen=True)
class Window:
    """The part of a tile to cut.

    - `frames` [n]: indices of the acquisitions.
    - `gaps` [n, h, w]: hidden in addition to the tile's own clouds.
    - `corner`, `side`: (row, column) of the upper left pixel, and (h, w).
    - `symmetry`: how to mirror and transpose (squares only).
    - `veil` [n, h, w]: laid over what is shown.
    - `unknown` [n, 2·h, 2·w] or [n, h, w]: pixels of the tile, besides its clouds, that are neither shown nor scored.
    - `coarser`: each pixel is the mean of 2×2 pixels of the tile; `corner`, `side` and `gaps` refer to these means, and
      a mean over any hidden or missing pixel is hidden.
    - `only_track`: if set, the only radar track shown.
    """

    frames: NDArray[np.intp]
    gaps: NDArray[np.bool_]
    corner: tuple[int, int]
    side: tuple[int, int]
    symmetry: int = 0
    with_radar: bool = True
    veil: NDArray[np.int8] | None = None
    unknown: NDArray[np.bool_] | None = None
    coarser: bool = False
    only_track: str | None = None

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Slices of the tile's rows and columns."""
        (row, column), (height, width) = self.corner, self.side
        if self.coarser:
            row, column, height, width = 2 * row, 2 * column, 2 * height, 2 * width
        return slice(row, row + height), slice(column, column + width)


@dataclass(frozen=True)
class Cutter:
    """Cuts examples with a run's frames and `bands`; with `any_bands`, with those bands that the tile has."""

    config: DataConfig
    bands: tuple[str, ...]
    any_bands: bool = False

    @property
    def _paired(self) -> bool:
        return self.config.radar is not None and self.config.radar.pairing == "nearest_date"

    def most_radar(self, frames: int) -> int:
        """S of an example with T `frames`, including padding."""
        if self.config.radar is None:
            return 0
        return frames if self._paired else self.config.radar.frames

    def allocate(self, side: tuple[int, int], frames: int, radar: int, count: int | None = None) -> Example:
        """Memory for an example, or for `count` examples with a leading dimension, to be filled by `fill`."""
        lead = () if count is None else (count,)
        arrays: Example = {
            "optical": np.zeros((*lead, frames, len(self.bands), *side), np.int16),
            "valid": np.zeros((*lead, frames, 1, *side), bool),
            "gap_mask": np.zeros((*lead, frames, 1, *side), bool),
            "frame_mask": np.zeros((*lead, frames), bool),
            "optical_dates": np.zeros((*lead, frames), np.float32),
            "bands": np.ones((*lead, len(self.bands)), bool),
        }
        if self.config.gaps.errors.any:
            arrays["veil"] = np.zeros((*lead, frames, 1, *side), np.int8)
        if self.config.radar:
            arrays["radar"] = np.empty((*lead, radar, len(S1_BANDS), *side), np.int16)
            arrays["radar_dates"] = np.zeros((*lead, radar), np.float32)
            arrays["radar_mask"] = np.zeros((*lead, radar), bool)
            arrays["radar_track"] = np.zeros((*lead, radar), np.int64)
        return arrays

    def cut(self, tile: Tile, window: Window, *, padded: bool) -> Example:
        """The window of a tile with its own number of frames or, if `padded`, at least the run's T and S."""
        days = days_since_origin(tile.optical.dates[window.frames])
        frames = max(len(days), self.config.frames) if padded else len(days)
        if padded or self._paired:
            radar = self.most_radar(frames)
        else:
            radar = sum(len(indices) for _, indices in self._radar_choice(tile, days, window))
        example = self.allocate(window.side, frames, radar)
        self.fill(example, tile, window)
        return example

    def fill(self, example: Example, tile: Tile, window: Window) -> None:
        """Writes the window into an example's arrays made by `allocate`. Spare room is padding, which is masked out.

        Raises:
            UserError: the tile lacks cloud masks, bands or radar that the run needs, or a file is damaged or missing.
        """
        rows, columns = window.pixels
        hidden = hidden_part(clouds_of(tile).decode(window.frames), rows, columns, self.config.gaps.dilation)
        if window.unknown is not None:
            hidden |= window.unknown
        available = np.array([not self.any_bands or band in tile.optical.bands for band in self.bands])
        example["bands"][:] = available
        channels = tile.optical.channels([band for band, has in zip(self.bands, available, strict=True) if has])
        places: slice | NDArray[np.bool_] = slice(None) if available.all() else available
        for slot, frame in enumerate(tile.optical.frames(window.frames)):
            values = frame[channels, rows, columns]
            known = ~hidden[slot] & (values.min(axis=0) != NO_DATA)
            if window.coarser:
                values, known = mean_of_four(values), blocks_of_four(known).all(axis=(-3, -1))
            gaps = window.gaps[slot] | ~known
            example["optical"][slot, places] = transform(values, window.symmetry)
            example["valid"][slot, 0] = transform(known, window.symmetry)
            example["gap_mask"][slot, 0] = transform(gaps, window.symmetry)
            if window.veil is not None:
                example["veil"][slot, 0] = transform(np.where(gaps, np.int8(0), window.veil[slot]), window.symmetry)
        days, step = days_since_origin(tile.optical.dates[window.frames]), self.config.date_rounding
        example["frame_mask"][: len(days)] = True
        example["optical_dates"][: len(days)] = days if step == 1 else np.round(days / step) * np.float32(step)
        if self.config.radar:
            self._fill_radar(example, tile, window, days)

    def _fill_radar(self, example: Example, tile: Tile, window: Window, days: NDArray[np.float32]) -> None:
        assert self.config.radar is not None
        rows, columns = window.pixels
        filled = 0
        for track, indices in self._radar_choice(tile, days, window):
            stored = tile.radar[track]
            channels = stored.channels(S1_BANDS)
            needed, used_as = np.unique(indices, return_inverse=True)
            for number, frame in enumerate(stored.frames(needed)):
                values = frame[channels, rows, columns]
                values = transform(mean_of_four(values) if window.coarser else values, window.symmetry)
                for slot in np.flatnonzero(used_as == number):
                    example["radar"][filled + slot] = values
            chosen = slice(filled, filled + len(indices))
            example["radar_dates"][chosen] = days_since_origin(stored.dates)[indices]
            example["radar_mask"][chosen] = True
            example["radar_track"][chosen] = track == DESCENDING
            filled += len(indices)
        example["radar"][filled:] = NO_DATA
        if not filled and self._paired:
            example["radar_dates"][: len(days)] = days

    def _radar_choice(
        self, tile: Tile, days: NDArray[np.float32], window: Window
    ) -> list[tuple[str, NDArray[np.intp]]]:
        """The acquisitions, by track, that are shown with optical frames of these days."""
        if self.config.radar is None:
            return []
        wanted = [self.config.radar.track] if self.config.radar.track != BOTH_TRACKS else sorted(tile.radar)
        tracks = [track for track in wanted if track in tile.radar and len(tile.radar[track].dates)]
        if not tracks and self._paired:
            raise UserError(f"tile {tile.tile_id} has no radar track {self.config.radar.track}")
        if not window.with_radar:
            return []
        choice = []
        for track in tracks:
            if window.only_track not in (None, track):
                continue
            radar_days = days_since_origin(tile.radar[track].dates)
            if self._paired:
                subset = evenly_spread(len(radar_days), self.config.radar.frames)
                indices = subset[nearest_acquisitions(days, radar_days[subset])]
            else:
                indices = around(days, radar_days, max(1, self.config.radar.frames // len(tracks)))
            choice.append((track, indices))
        return choice


def blocks_of_four(images: NDArray[Any]) -> NDArray[Any]:
    """[..., 2·h, 2·w] as [..., h, 2, w, 2]."""
    *lead, height, width = images.shape
    return images.reshape(*lead, height // 2, 2, width // 2, 2)


def mean_of_four(stored: NDArray[np.int16]) -> NDArray[np.int16]:
    """Stored integers [..., 2·h, 2·w] averaged to [..., h, w]; `NO_DATA` where any of the four is."""
    parts = blocks_of_four(stored)
    mean = np.rint(parts.mean(axis=(-3, -1), dtype=np.float32)).astype(np.int16)
    return np.where((parts == NO_DATA).any(axis=(-3, -1)), NO_DATA, mean)


def stack(examples: Sequence[Example]) -> Example:
    """Examples of the same size, stacked with a leading batch dimension."""
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


def clouds_of(tile: Tile) -> Any:
    """The tile's cloud masks.

    Raises:
        UserError: the tile has none.
    """
    if tile.clouds is None:
        raise UserError(f"tile {tile.tile_id} has no cloud masks; detect clouds first")
    return tile.clouds


def size(tile: Tile) -> tuple[int, int]:
    """(H, W) of a tile in pixels."""
    return tile.optical.shape[2], tile.optical.shape[3]


def evenly_spread(count: int, wanted: int) -> NDArray[np.intp]:
    """Indices trunc(linspace(0, count - 1, wanted)), including both ends; some repeat if count < wanted."""
    return np.linspace(0, count - 1, wanted).astype(np.intp)


def nearest_acquisitions(optical_days: NDArray[np.floating], radar_days: NDArray[np.floating]) -> NDArray[np.intp]:
    """For each optical date, the index of the nearest radar date; the earlier of two at the same distance, the first of
    equal dates (as in the published method)."""
    distance = np.abs(optical_days[:, None] - radar_days[None, :])
    return distance.argmin(axis=1)


def around(
    optical_days: NDArray[np.floating], radar_days: NDArray[np.floating], most: int, margin_days: float = 6.0
) -> NDArray[np.intp]:
    """Indices of at most `most` acquisitions, ascending: first the nearest to each optical date, then evenly spaced
    ones in the rest of the span of the optical dates."""
    nearest = np.unique(nearest_acquisitions(optical_days, radar_days))
    if len(nearest) >= most:
        return nearest[evenly_spread(len(nearest), most)]
    in_span = (radar_days >= optical_days.min() - margin_days) & (radar_days <= optical_days.max() + margin_days)
    others = np.setdiff1d(np.flatnonzero(in_span), nearest)
    if len(others) > most - len(nearest):
        others = others[evenly_spread(len(others), most - len(nearest))]
    return np.sort(np.concatenate([nearest, others]))


Scalar = TypeVar("Scalar", bound=np.generic)


def transform(values: NDArray[Scalar], which: int) -> NDArray[Scalar]:
    """`values` [..., H, W] under symmetry `which`, from 0 (none) to 7."""
    if which & 1:
        values = values[..., ::-1, :]
    if which & 2:
        values = values[..., :, ::-1]
    if which & 4:
        values = np.swapaxes(values, -1, -2)
    return values

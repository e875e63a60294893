"""Examples for training, validation and test, cut from a stored tile. All randomness is keyed by
(seed, epoch, tile, draw), so an example does not depend on who makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore_dit.config import DataConfig
from restore_dit.data.examples import gaps, radar_choice
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.data.examples.plan import PlannedExample
from restore_dit.data.examples.split import Part, frames_of_part
from restore_dit.data.examples.symmetry import transform
from restore_dit.data.randomness import generator
from restore_dit.data.store.stored_tile import StoredTile
from restore_dit.errors import UserError
from restore_dit.series import CLEAR, NO_DATA, S1_BANDS, days_since_origin

Tile = StoredTile | DecodedTile
"""A tile from the store, its frames still compressed, or from the cache of decoded tiles."""

Example = dict[str, Any]
"""One example as arrays: T frames, S radar acquisitions, side h×w.

optical int16 [T, C, h, w] reflectance × 10000; valid bool [T, 1, h, w] pixels whose value is known and scored;
gap_mask bool [T, 1, h, w] pixels hidden from the model; frame_mask bool [T]; optical_dates float32 [T] days since
2018-09-01; radar int16 [S, 2, h, w] dB × 100; radar_dates float32 [S]; radar_mask bool [S]; quantile float32 and
noise_seed int64, the diffusion step and noise; weight float32; tile_id str; draw, epoch int64.
"""


@dataclass(frozen=True)
class ExampleMaker:
    """Makes examples of one run from stored tiles.

    `bands` are the optical bands in the network's order; `seed` is the run's.
    """

    config: DataConfig
    bands: tuple[str, ...]
    seed: int

    def training(self, tile: Tile, planned: PlannedExample) -> Example:
        """The example that the plan asks for."""
        return self._drawn(tile, planned, "train")

    def validation(self, tile: Tile, draw: int) -> Example:
        """One of the fixed examples that a run is validated on."""
        return self._drawn(tile, PlannedExample(-1, tile.tile_id, draw, 1.0), "validation")

    def clear_frames(self, tile: Tile, part: Part = "test") -> NDArray[np.intp]:
        """Indices of the frames that a part may score."""
        return np.flatnonzero(self._frames(tile, self.missing(tile), part)[1])

    def missing(self, tile: Tile) -> NDArray[np.bool_]:
        """Cloud, shadow or no data in each frame: bool [T, H, W]."""
        if tile.clouds is None:
            raise UserError(f"tile {tile.tile_id} has no cloud masks; detect clouds first")
        return tile.clouds.decode() != CLEAR

    def _drawn(self, tile: Tile, planned: PlannedExample, part: Part) -> Example:
        random = generator(self.seed, part, planned.epoch, planned.tile_id, planned.draw)
        height, width = size(tile)
        side = (self.config.crop or height, self.config.crop or width)
        if side[0] > height or side[1] > width:
            raise UserError(
                f"tile {tile.tile_id} is {height}×{width} pixels, smaller than data.crop={self.config.crop}"
            )
        corner = (int(random.integers(height - side[0] + 1)), int(random.integers(width - side[1] + 1)))

        missing = self.missing(tile)
        shown, scored = self._frames(tile, missing, part)
        clear = scored if part == "train" else scored | (self._clear(missing) & shown)
        chosen = self._choose(np.flatnonzero(clear), np.flatnonzero(scored), random)
        usable_masks = missing[shown]
        excluded = np.flatnonzero(np.isin(np.flatnonzero(shown), chosen))
        cut = gaps.training_gaps(usable_masks, excluded, len(chosen), side, corner, self.config.gaps, random)

        held_out = part == "validation" and self.config.split.by == "dates"
        with_radar = part != "train" or random.random() >= (self.config.radar.dropout if self.config.radar else 0)
        example = self.window(tile, chosen, cut, corner, side, missing=missing, with_radar=with_radar)
        if held_out:
            # Frames that training has seen are context here; only the held-out ones are scored.
            example["valid"] &= np.isin(chosen, np.flatnonzero(scored))[:, None, None, None]
        if part == "train" and self.config.date_shift:
            shift = random.integers(-self.config.date_shift, self.config.date_shift + 1)
            for name in ("optical_dates", "radar_dates"):
                if name in example:
                    example[name] = (example[name] + shift).astype(np.float32)
        if self.config.flips and part == "train" and side[0] == side[1]:
            which = int(random.integers(8))
            for name in ("optical", "valid", "gap_mask", "radar"):
                if name in example:
                    example[name] = np.ascontiguousarray(transform(example[name], which))
        example |= {
            "quantile": np.float32(random.random()),
            "noise_seed": np.int64(random.integers(2**62)),
            "weight": np.float32(planned.weight),
            "tile_id": planned.tile_id,
            "draw": np.int64(planned.draw),
            "epoch": np.int64(planned.epoch),
        }
        return self.padded(example)

    def _choose(
        self, clear: NDArray[np.intp], scored: NDArray[np.intp], random: np.random.Generator
    ) -> NDArray[np.intp]:
        """At most `frames` of the clear frames, in order, at least one of them scored."""
        length = min(self.config.frames, len(clear))
        stretch = length
        if self.config.frame_choice == "spread":
            stretch = int(random.integers(length, min(2 * length, len(clear)) + 1))
        is_scored = np.isin(clear, scored)
        starts = [first for first in range(len(clear) - stretch + 1) if is_scored[first : first + stretch].any()]
        first = int(random.choice(starts))
        run = clear[first : first + stretch]
        if stretch == length:
            return run
        must = random.choice(run[is_scored[first : first + stretch]])
        others = random.permutation(run[run != must])
        return np.sort(np.append(others[: length - 1], must))

    def _frames(
        self, tile: Tile, missing: NDArray[np.bool_], part: Part
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        shown, scored = frames_of_part(self._clear(missing), part, self.config.split, self.seed, tile.tile_id)
        if not scored.any():
            raise UserError(
                f"tile {tile.tile_id}: none of its {len(shown)} frames may be a {part} target; "
                f"lower data.clear_share={self.config.clear_share} or leave the tile out"
            )
        return shown, scored

    def _clear(self, missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return 1 - missing.mean(axis=(1, 2)) >= self.config.clear_share

    def window(
        self,
        tile: Tile,
        chosen: NDArray[np.intp],
        cut: NDArray[np.bool_],
        corner: tuple[int, int],
        side: tuple[int, int],
        *,
        missing: NDArray[np.bool_],
        with_radar: bool = True,
    ) -> Example:
        """The given frames of a tile, cut at `corner` with `side`, with gaps `cut` [n, h, w] besides the tile's own
        clouds (`missing`, as `missing(tile)` gives them); not padded."""
        window = np.s_[..., corner[0] : corner[0] + side[0], corner[1] : corner[1] + side[1]]
        optical = tile.optical.decode(chosen, self.bands)[window]
        valid = ~missing[chosen][window] & (optical != NO_DATA).all(axis=1)
        days = days_since_origin(tile.optical.dates[chosen])
        step = self.config.date_rounding
        example: Example = {
            "optical": optical,
            "valid": valid[:, None],
            "gap_mask": (cut | ~valid)[:, None],
            "frame_mask": np.ones(len(chosen), bool),
            "optical_dates": days if step == 1 else np.round(days / step) * np.float32(step),
        }
        if self.config.radar:
            example |= self._radar(tile, days, window, side, with_radar=with_radar)
        return example

    def _radar(
        self, tile: Tile, days: NDArray[np.float32], window: Any, side: tuple[int, int], *, with_radar: bool
    ) -> Example:
        assert self.config.radar is not None
        stored = tile.radar.get(self.config.radar.track)
        paired = self.config.radar.pairing == "nearest_date"
        if stored is None or not with_radar:
            if paired and stored is None:
                raise UserError(f"tile {tile.tile_id} has no radar track {self.config.radar.track}")
            empty = np.full((len(days) if paired else 0, len(S1_BANDS), *side), NO_DATA, np.int16)
            return {
                "radar": empty,
                "radar_dates": days[: len(empty)],
                "radar_mask": np.zeros(len(empty), bool),
            }
        radar_days = days_since_origin(stored.dates)
        if paired:
            subset = radar_choice.evenly_spread(len(radar_days), self.config.radar.frames)
            indices = subset[radar_choice.nearest_acquisitions(days, radar_days[subset])]
        else:
            indices = radar_choice.around(days, radar_days, self.config.radar.frames)
        unique, inverse = np.unique(indices, return_inverse=True)
        return {
            "radar": stored.decode(unique, S1_BANDS)[window][inverse],
            "radar_dates": radar_days[indices],
            "radar_mask": np.ones(len(indices), bool),
        }

    def padded(self, example: Example) -> Example:
        """The example with T and S of the run, so that examples stack; one of more frames keeps them."""
        frames = max(0, self.config.frames - len(example["frame_mask"]))
        lengths = dict.fromkeys(("optical", "valid", "gap_mask", "frame_mask", "optical_dates"), frames)
        if self.config.radar:
            paired = self.config.radar.pairing == "nearest_date"
            missing = frames if paired else self.config.radar.frames - len(example["radar_mask"])
            lengths |= dict.fromkeys(("radar", "radar_dates", "radar_mask"), missing)
        padded = dict(example)
        for name, extra in lengths.items():
            if extra:
                values = example[name]
                filler = NO_DATA if name == "radar" else 0
                padding = np.full((extra, *values.shape[1:]), filler, values.dtype)
                padded[name] = np.concatenate([values, padding])
        return padded


def size(tile: Tile) -> tuple[int, int]:
    """(H, W) of a tile in pixels."""
    return tile.optical.shape[2], tile.optical.shape[3]

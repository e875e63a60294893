"""Draws examples for training, validation and test from tiles. All randomness is keyed by (seed, epoch, tile, draw), so
an example does not depend on the process that makes it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore_dit.config import DataConfig
from restore_dit.data.examples import gaps
from restore_dit.data.examples.cutting import Cutter, Example, Tile, Window, blocks_of_four, clouds_of, size, transform
from restore_dit.data.examples.dilation import hidden_part, hidden_pixels
from restore_dit.data.examples.gaps import missed_pieces
from restore_dit.data.examples.plan import Part, PlannedExample, frames_of_part
from restore_dit.data.examples.targets import TARGET, decide, explained
from restore_dit.data.randomness import generator
from restore_dit.errors import UserError
from restore_dit.series import CLEAR, MIN_BANDS, NO_DATA

COMMON_BANDS = (
    frozenset({"B02", "B03", "B04", "B08"}),
    frozenset({"B02", "B03", "B04", "B8A"}),
    frozenset({"B02", "B03", "B04", "B08", "B11", "B12"}),
    frozenset({"B05", "B06", "B07", "B8A", "B11", "B12"}),
)
"""Typical bands of cubes with fewer than ten: those of 10 m, those of 20 m, and mixtures of both."""

MIN_SHOWN = 0.05
"""Minimum share of clear pixels for a frame to be shown although it is not a target."""


@dataclass(frozen=True)
class ExampleMaker:
    """Makes examples of one run from stored tiles.

    `bands` are the optical bands in the network's order; `seed` is the run's seed. With `any_bands`, tiles may lack
    some of the bands.
    """

    config: DataConfig
    bands: tuple[str, ...]
    seed: int
    any_bands: bool = False

    @property
    def cutter(self) -> Cutter:
        """The cutter of the drawn windows."""
        return Cutter(self.config, self.bands, self.any_bands)

    def training(self, tiles: Sequence[Tile], planned: Sequence[PlannedExample], threads: int = 1) -> Example:
        """The planned examples, each from its tile, stacked with a leading dimension; made by several `threads` if
        frames come from remote storage.

        Raises:
            UserError: tiles of different sizes, smaller than the crop, or without a target; or a missing or damaged
                file.
        """
        return self._stacked(tiles, planned, "train", threads)

    def validation(self, tile: Tile, draw: int) -> Example:
        """One of the run's fixed validation examples, as a batch of one."""
        return self._stacked([tile], [PlannedExample(-1, tile.tile_id, draw, 1.0)], "validation", 1)

    def clear_frames(self, tile: Tile, part: Part = "test") -> NDArray[np.intp]:
        """Indices of the frames that a part may score."""
        return np.flatnonzero(self._frames(tile, part)[1])

    def missing(self, tile: Tile) -> NDArray[np.bool_]:
        """Pixels with cloud, shadow or no data in each frame: bool [T, H, W]."""
        return clouds_of(tile).decode() != CLEAR

    def unknown(self, tile: Tile) -> NDArray[np.bool_]:
        """Pixels of each frame that cannot be scored, bool [T, H, W]: `missing` and, with `targets.also_by_source`,
        pixels that are not clear in the masks that came with the tile."""
        missing = self.missing(tile)
        if not self.config.targets.also_by_source:
            return missing
        return missing | (_source_clouds(tile).decode() != CLEAR)

    def _stacked(self, tiles: Sequence[Tile], planned: Sequence[PlannedExample], part: Part, threads: int) -> Example:
        sides = [self._side(tile) for tile in tiles]
        if len(set(sides)) > 1:
            sizes = ", ".join(sorted({f"{height}×{width}" for height, width in sides}))
            raise UserError(f"tiles of different sizes in one batch ({sizes}); set data.crop")
        cutter = self.cutter
        frames = self.config.frames
        examples = cutter.allocate(sides[0], frames, cutter.most_radar(frames), len(planned))

        def draw(index: int) -> tuple[float, int]:
            example = {name: values[index] for name, values in examples.items()}
            return self._draw(example, tiles[index], planned[index], part)

        if threads > 1 and len(planned) > 1:
            with ThreadPoolExecutor(threads) as pool:
                drawn = list(pool.map(draw, range(len(planned))))
        else:
            drawn = [draw(index) for index in range(len(planned))]
        return examples | {
            "quantile": np.array([quantile for quantile, _ in drawn], np.float32),
            "noise_seed": np.array([seed for _, seed in drawn], np.int64),
            "weight": np.array([entry.weight for entry in planned], np.float32),
            "tile_id": np.array([entry.tile_id for entry in planned]),
            "draw": np.array([entry.draw for entry in planned], np.int64),
            "epoch": np.array([entry.epoch for entry in planned], np.int64),
        }

    def _side(self, tile: Tile) -> tuple[int, int]:
        height, width = size(tile)
        crop = self.config.crop
        if crop and crop > min(height, width):
            raise UserError(f"tile {tile.tile_id} is {height}×{width} pixels, smaller than data.crop={crop}")
        return (crop, crop) if crop else (height, width)

    def _draw(self, example: Example, tile: Tile, planned: PlannedExample, part: Part) -> tuple[float, int]:
        """Fills one example's arrays; returns the quantile of its diffusion step and the seed of its noise."""
        random = generator(self.seed, part, planned.epoch, planned.tile_id, planned.draw)
        (height, width), side = size(tile), self._side(tile)
        # A generator of its own, so that switching a variation on or off does not change the windows.
        varied = generator(self.seed, "variation", planned.epoch, planned.tile_id, planned.draw)
        coarser = part == "train" and self._may_be_coarser(tile) and varied.random() < self.config.coarser
        if coarser:
            height, width = height // 2, width // 2
        corner = (int(random.integers(height - side[0] + 1)), int(random.integers(width - side[1] + 1)))
        shown, scored = self._frames(tile, part)
        clear = scored if part == "train" else scored | (self._clear(tile) & shown)
        if part == "train" and varied.random() < self.config.partly_clear:
            clear = scored = scored | (shown & self._shows_something(tile))
        chosen = self._choose(np.flatnonzero(clear), np.flatnonzero(scored), random)
        if part == "train":
            chosen = self._thinned(chosen, scored, varied)
        dates = np.flatnonzero(shown)
        drawn = gaps.draw_dates(len(dates), np.flatnonzero(np.isin(dates, chosen)), len(chosen), random)
        placements = gaps.draw_placements(len(drawn), size(tile), side, corner, self.config.gaps, random)
        masks = clouds_of(tile).decode(dates[drawn])
        veil = None
        if part == "train" and self.config.gaps.errors.any:
            errors = generator(self.seed, "mask errors", planned.epoch, planned.tile_id, planned.draw)
            missed = missed_pieces(masks, self.config.gaps.errors, errors)
            masks = np.where(missed == 0, masks, np.uint8(CLEAR))
            veil = gaps.placed(missed, placements, side)
        # Dilated before it is placed: a cloud just outside the window reaches into it.
        cut = gaps.placed(hidden_pixels(masks, self.config.gaps.dilation), placements, side)
        gaps.vary(cut, self.config.gaps, random)

        with_radar = part != "train" or random.random() >= (self.config.radar.dropout if self.config.radar else 0)
        shift = 0
        if part == "train" and self.config.date_shift:
            shift = int(random.integers(-self.config.date_shift, self.config.date_shift + 1))
        # Four of the eight symmetries swap the sides, which only a square window survives.
        flips = self.config.flips and part == "train" and side[0] == side[1]
        symmetry = int(random.integers(8)) if flips else 0
        track = self._only_track(tile, varied) if part == "train" else None
        window = Window(chosen, cut, corner, side, symmetry, with_radar, veil, None, coarser, track)
        self.cutter.fill(example, tile, replace(window, unknown=self._unclear(tile, window)))
        if self.config.truly_clear and tile.true_clouds is not None:
            self._score_truly_clear(example, tile.true_clouds.decode(window.frames), window)
        if part == "train":
            self._vary_bands(example, varied)
        if part == "validation" and self.config.split.by == "dates":
            # Training frames serve as context here; only the held-out ones are scored.
            example["valid"][: len(chosen)] &= scored[chosen][:, None, None, None]
        for name, real in (("optical_dates", "frame_mask"), ("radar_dates", "radar_mask")):
            if shift and name in example:
                example[name][example[real]] += np.float32(shift)
        return random.random(), int(random.integers(2**62))

    def _unclear(self, tile: Tile, window: Window) -> NDArray[np.bool_] | None:
        """Pixels of a window that are not clear in the dilated masks that came with the tile; None if these are not
        used."""
        if not self.config.targets.also_by_source:
            return None
        return hidden_part(_source_clouds(tile).decode(window.frames), *window.pixels, self.config.gaps.dilation)

    @staticmethod
    def _score_truly_clear(example: Example, true_clouds: NDArray[np.uint8], window: Window) -> None:
        rows, columns = window.pixels
        clear = true_clouds[:, rows, columns] == CLEAR
        if window.coarser:
            clear = blocks_of_four(clear).all(axis=(-3, -1))
        for slot, of_frame in enumerate(clear):
            example["valid"][slot, 0] &= transform(of_frame, window.symmetry)

    def _may_be_coarser(self, tile: Tile) -> bool:
        return self.config.crop is not None and min(size(tile)) >= 2 * self.config.crop

    def _shows_something(self, tile: Tile) -> NDArray[np.bool_]:
        """Frames with a minimum share of clear pixels, bool [T]."""
        assert tile.cloud_counts is not None
        height, width = size(tile)
        return np.array(tile.cloud_counts.clear_pixels) >= MIN_SHOWN * height * width

    def _thinned(
        self, chosen: NDArray[np.intp], scored: NDArray[np.bool_], random: np.random.Generator
    ) -> NDArray[np.intp]:
        """A random subset of the chosen frames, with at least one scored frame."""
        if self.config.least_kept == 1:
            return chosen
        kept = random.random(len(chosen)) < random.uniform(self.config.least_kept, 1)
        kept[random.choice(np.flatnonzero(scored[chosen]))] = True
        return chosen[kept]

    def _only_track(self, tile: Tile, random: np.random.Generator) -> str | None:
        """One of several radar tracks, at random with the probability that an example has no radar at all; otherwise
        None."""
        tracks = sorted(tile.radar)
        if self.config.radar is None or len(tracks) < 2 or random.random() >= self.config.radar.dropout:
            return None
        return str(random.choice(tracks))

    def _vary_bands(self, example: Example, random: np.random.Generator) -> None:
        """Removes bands, half of the time keeping one of `COMMON_BANDS`, and changes the brightness of all bands
        together and of each."""
        if random.random() < self.config.band_dropout:
            present = np.flatnonzero(example["bands"])
            common = COMMON_BANDS[random.integers(len(COMMON_BANDS))]
            kept = np.array([band for band in present if self.bands[band] in common], np.intp)
            if random.random() < 0.5 or len(kept) < MIN_BANDS:
                kept = random.permutation(present)[: random.integers(MIN_BANDS, max(len(present), MIN_BANDS + 1))]
            example["bands"][:] = False
            example["bands"][kept] = True
        if self.config.gain:
            factors = self.config.gain * (random.standard_normal() + 0.5 * random.standard_normal(len(self.bands)))
            optical = example["optical"]
            # Clipped to int16, since a value that wraps around would be a dark pixel.
            brighter = (optical * np.exp(factors).astype(np.float32)[:, None, None]).clip(max=32767)
            optical[:] = np.where(optical == NO_DATA, NO_DATA, np.rint(brighter)).astype(np.int16)

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

    def _frames(self, tile: Tile, part: Part) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        shown, scored = frames_of_part(self._clear(tile), part, self.config.split, self.seed, tile.tile_id)
        if not scored.any():
            raise UserError(
                f"tile {tile.tile_id}: none of its {len(shown)} frames may be a {part} target: "
                f"{explained(self.config.targets, self._decisions(tile))}; raise a limit, or leave the tile out"
            )
        return shown, scored

    def _clear(self, tile: Tile) -> NDArray[np.bool_]:
        """Which frames may be targets, bool [T]."""
        return self._decisions(tile) == TARGET

    def _decisions(self, tile: Tile) -> NDArray[np.str_]:
        return decide(
            self.config.targets,
            tile.cloud_counts,
            tile.bad_frames,
            f"tile {tile.tile_id}",
            tile.optical.bands,
            tile.source_counts,
        )


def _source_clouds(tile: Tile) -> Any:
    """The masks that came with a tile; their existence was checked when its frames were decided."""
    assert tile.source_clouds is not None
    return tile.source_clouds

"""Properties that simulated patches take over from real ones: numbers, acquisition dates, lists of bad frames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from restore_dit.data import storage
from restore_dit.data.pastis.layout import TILES, TRACKS
from restore_dit.data.pastis.metadata import Patch, read_bad_frames
from restore_dit.errors import UserError


@dataclass(frozen=True)
class Template:
    """Dates by tile in PASTIS-R's format (keys `dates-S2`, `dates-S1A`, `dates-S1D`), and bad frames by patch; None to
    simulate them."""

    dates: Mapping[str, Mapping[str, Any]] | None = None
    bad_frames: Mapping[str, list[int]] | None = None

    def number(self, index: int) -> int:
        """The number of the patch with this index. Tiles take turns; within a tile, patches are numbered as in
        `bad_frames`, or consecutively without it.

        Raises:
            UserError: `bad_frames` has no patch left in that tile.
        """
        turn, tile = divmod(index, len(TILES))
        if self.bad_frames is None:
            return (tile + 1) * 10_000 + turn
        numbers = sorted(int(patch) for patch in self.bad_frames if int(patch) // 10_000 == tile + 1)
        if turn >= len(numbers):
            raise UserError(f"--bad-frames: lists {len(numbers)} patches in {TILES[tile]}; request fewer --tiles")
        return numbers[turn]

    def simulated_dates(self, tile: str) -> dict[str, Any]:
        """Arguments of `simulate_tile` for the dates of a tile.

        Raises:
            UserError: a sensor has no dates, or a date does not exist.
        """
        if self.dates is None:
            return {}
        given = Patch(tile, dict(self.dates[tile]), np.empty((0, 2)), f"--dates: {tile}")
        return {"optical_dates": given.dates("S2"), "radar_dates": {track: given.dates(track) for track in TRACKS}}


def read_template(dates: str | None, bad_frames: str | None) -> Template:
    """The template from two JSON files, either of which may be omitted.

    Raises:
        UserError: a file cannot be read or has invalid contents, or bad frames are given without dates.
    """
    if bad_frames and not dates:
        raise UserError(
            "--bad-frames: its indices refer to the frames of real dates; specify --dates as well", status=2
        )
    if not dates:
        return Template()
    try:
        tree = json.loads(storage.read_bytes(dates))
    except ValueError as error:
        raise UserError(f"{dates}: not JSON ({' '.join(str(error).split())})") from None
    missing = [tile for tile in TILES if not isinstance(tree, dict) or not isinstance(tree.get(tile), dict)]
    if missing:
        raise UserError(f"{dates}: no dates for tile {missing[0]}; all of {', '.join(TILES)} are required")
    lists = read_bad_frames(storage.read_bytes(bad_frames), bad_frames) if bad_frames else None
    if lists is not None and not all(patch.isdigit() for patch in lists):
        raise UserError(f"{bad_frames}: its keys must be patch numbers, such as 10000")
    return Template(tree, lists)

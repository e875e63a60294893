"""How large a series may be that somebody else's file holds."""

from __future__ import annotations

from dataclasses import dataclass

from restore_dit.errors import UserError

MOST_TRACKS = 4
"""Radar series of one site: two directions of flight, two orbits of each."""


class TooLarge(UserError):
    """A file holds more than is taken."""


@dataclass(frozen=True)
class SeriesLimits:
    """Sizes beyond which a file is refused before its images are read."""

    side: int = 4096
    """Pixels of a side."""
    dates: int = 1000
    values: int = 2_000_000_000
    """Numbers in all: dates × bands × pixels, of one sensor."""

    def require_tracks(self, name: str, tracks: int) -> None:
        """Refuses too many radar series, each of which may be as large as the optical one.

        Raises:
            TooLarge: naming the limit.
        """
        if tracks > MOST_TRACKS:
            raise TooLarge(f"{name}: {tracks} radar tracks; at most {MOST_TRACKS} are taken")

    def require(self, name: str, dates: int, height: int, width: int, bands: int) -> None:
        """Refuses what is too large.

        Raises:
            TooLarge: naming the limit.
        """
        if max(height, width) > self.side:
            raise TooLarge(f"{name}: {height}×{width} pixels; at most {self.side} a side are taken")
        if dates > self.dates:
            raise TooLarge(f"{name}: {dates} dates; at most {self.dates} are taken")
        if dates * height * width * bands > self.values:
            raise TooLarge(
                f"{name}: {dates} dates × {bands} bands × {height}×{width} pixels are {dates * bands * height * width} "
                f"values; at most {self.values} are taken"
            )

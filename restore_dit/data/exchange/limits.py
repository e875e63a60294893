"""Size limits for series in files of unknown origin."""

from __future__ import annotations

from dataclasses import dataclass

from restore_dit.errors import TooLarge

MAX_TRACKS = 4
"""Maximum number of radar series of one site: two orbit directions with two relative orbits each."""


@dataclass(frozen=True)
class SeriesLimits:
    """Maximum sizes; a larger file is rejected before its images are read."""

    side: int = 4096
    """Pixels per side."""
    dates: int = 1000
    values: int = 2_000_000_000
    """Total number of values of one sensor: dates × bands × pixels."""

    def require_tracks(self, name: str, tracks: int) -> None:
        """Rejects too many radar series, each of which may be as large as the optical one.

        Raises:
            TooLarge: with the limit in the message.
        """
        if tracks > MAX_TRACKS:
            raise TooLarge(f"{name}: {tracks} radar tracks; at most {MAX_TRACKS} are accepted")

    def require(self, name: str, dates: int, height: int, width: int, bands: int) -> None:
        """Rejects a series that is too large.

        Raises:
            TooLarge: with the limit in the message.
        """
        if max(height, width) > self.side:
            raise TooLarge(f"{name}: {height}×{width} pixels; at most {self.side} per side are accepted")
        if dates > self.dates:
            raise TooLarge(f"{name}: {dates} dates; at most {self.dates} are accepted")
        if dates * height * width * bands > self.values:
            raise TooLarge(
                f"{name}: {dates} dates × {bands} bands × {height}×{width} pixels are {dates * bands * height * width} "
                f"values; at most {self.values} are accepted"
            )

"""Cloud masks as recorded in a manifest: their origin, and their counts for each acquisition."""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from restore_dit.config import Section
from restore_dit.data.store.haze import frame_haze
from restore_dit.data.store.tile_statistics import Sums, optical_sums
from restore_dit.series import CLEAR, CLOUD_NO_DATA, SHADOW, THICK_CLOUD, THIN_CLOUD, Acquisitions

CLOUDS = "clouds"
"""The layer with the masks that came with a tile; for readers, the masks in use."""

TRUTH = "truth"
"""The method of the true masks of simulated tiles, which exist next to those of an imperfect detector."""

TRUE_CLOUDS = "true_clouds"
"""For readers, the layer with the true masks."""

SOURCE_CLOUDS = "source_clouds"
"""For readers, the layer with the masks that came with a tile, whichever masks are in use."""

SOURCE = "source"
"""The method of masks that came with a tile."""

CLOUD_CLASSES = {
    "clear": CLEAR,
    "thick_cloud": THICK_CLOUD,
    "thin_cloud": THIN_CLOUD,
    "shadow": SHADOW,
    "no_data": CLOUD_NO_DATA,
}
"""Name of each cloud class → its value in a mask."""


class MaskOrigin(Section):
    """How a set of masks was made."""

    method: str = Field(pattern=r"^[a-z0-9_]+$", description="source, s2cloudless, rule, network, csmask")
    by: str = Field("", description="the source, settings or weights; a different value means different masks")

    def __str__(self) -> str:
        return f"{self.method} by {self.by}" if self.by else self.method

    @property
    def layer(self) -> str:
        """The layer that contains the masks of this origin, and no others."""
        if self.method == SOURCE:
            return CLOUDS
        if not self.by:
            return f"{CLOUDS}-{self.method}"
        return f"{CLOUDS}-{self.method}-{hashlib.blake2b(self.by.encode(), digest_size=4).hexdigest()}"


class CloudCounts(Section):
    """Statistics of masks: `frames`, the number of pixels of each class in each acquisition, and `haze`, the
    reflectance by which a quarter of its clear pixels exceed the tile's usual clear ground (None without a clear
    pixel)."""

    frames: dict[str, tuple[int, ...]]
    haze: tuple[float | None, ...]

    @property
    def pixels(self) -> dict[str, int]:
        """Number of pixels of each class over all acquisitions."""
        return {name: sum(counts) for name, counts in self.frames.items()}

    @property
    def clear_pixels(self) -> tuple[int, ...]:
        """Number of clear pixels of each acquisition."""
        return self.frames["clear"]

    @property
    def cloud_share(self) -> float:
        """Share of cloud and shadow among pixels with data."""
        pixels = self.pixels
        known = sum(count for name, count in pixels.items() if name != "no_data")
        return 1 - pixels["clear"] / known if known else math.nan


class MaskRecord(Section):
    """A set of masks of a tile."""

    origin: MaskOrigin
    counts: CloudCounts
    sums: Sums = Field(
        description="sums in reflectance over optical pixels that are valid and clear according to these masks"
    )


def cloud_counts(optical: Acquisitions, clouds: NDArray[np.uint8]) -> CloudCounts:
    """Statistics of the masks uint8 [T, H, W] of an optical series."""
    return CloudCounts(
        frames={
            name: tuple(np.count_nonzero(clouds == value, axis=(1, 2)).tolist())
            for name, value in CLOUD_CLASSES.items()
        },
        haze=frame_haze(optical, clouds),
    )


def mask_record(optical: Acquisitions, clouds: NDArray[np.uint8], origin: MaskOrigin) -> MaskRecord:
    """The record of the masks uint8 [T, H, W] of an optical series."""
    return MaskRecord(origin=origin, counts=cloud_counts(optical, clouds), sums=optical_sums(optical, clouds))

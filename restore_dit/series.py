"""The central data structure: a tile's optical and radar series with dates, clouds and georeference."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

NO_DATA = np.int16(-32768)
"""Marks a missing value in every int16 array of a series."""

REFLECTANCE_SCALE = 10_000
"""Stored optical integer for a surface reflectance of 1."""

INDEX_SCALE = 10_000
"""Stored integer for a vegetation index of 1."""

DECIBEL_SCALE = 100
"""Stored radar integer for one dB."""

S2_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""Bands that the method reads."""

S2_ALL_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""Bands that a store may hold; cloud networks may also read the atmospheric bands at 60 m."""

MIN_BANDS = 3
"""Minimum number of `S2_BANDS` for a model that accepts any bands."""

S1_BANDS = ("VV", "VH")

RADAR_CHANNELS = ("VV", "VH", "VV-VH")
"""Radar channels that a network may use, in the order of PASTIS-R and of published networks."""

CLEAR, THICK_CLOUD, THIN_CLOUD, SHADOW, CLOUD_NO_DATA = 0, 1, 2, 3, 255

NEVER_OBSERVED = "never_observed"
"""Name, in results too, of the uint8 layer [H, W] of a filled series that is 1 where a pixel is observed on no date, so
that its values come from its neighbours and from what the network has learnt elsewhere."""

UNCERTAINTY = "uncertainty"
"""Name of the int16 layer [T, C, H, W] with the standard deviation of the values that a network filled, reflectance ×
10000; 0 where a pixel is observed."""

SAMPLES = "samples"
"""Name of the int16 layer [T, K, C, H, W] with the K possible series of an ensemble, reflectance × 10000."""

PROVENANCE = "provenance"
"""Name of the uint8 layer [T, H, W] of a filled series that says what each value rests on: one of `Provenance`."""


SUSPECT = "suspect"
"""Name of the uint8 layer [T, H, W] of a filled series that is 1 where a pixel counts as observed, but is probably
cloud, haze or shadow that the mask missed. If suspect pixels were replaced, it still says where they were."""


class Provenance(IntEnum):
    """What a value of a filled series rests on."""

    OBSERVED = 0
    """It is what was acquired."""
    FILLED = 1
    """The pixel was observed both before and after."""
    EXTRAPOLATED = 2
    """The pixel was observed only before, or only after."""
    UNKNOWN = 3
    """The pixel was observed hardly ever, or not for half a year: the value is a guess."""


DATE_ORIGIN = np.datetime64("2018-09-01", "D")


def days_since_origin(dates: NDArray[np.datetime64]) -> NDArray[np.float32]:
    """Dates as days since 2018-09-01, the network's time axis."""
    return (dates.astype("datetime64[D]") - DATE_ORIGIN).astype(np.float32)


@dataclass(frozen=True)
class Georeference:
    """A tile's position: `crs` as an authority string or WKT, and `transform` as affine coefficients (a, b, c, d, e,
    f), with x = a·column + b·row + c and y = d·column + e·row + f for a pixel's upper left corner."""

    crs: str
    transform: tuple[float, float, float, float, float, float]

    def cropped(self, row: int, column: int) -> Georeference:
        """The georeference of the part of the tile that starts at (row, column)."""
        a, b, c, d, e, f = self.transform
        return Georeference(self.crs, (a, b, c + a * column + b * row, d, e, f + d * column + e * row))


@dataclass(frozen=True)
class Acquisitions:
    """One sensor's series: `values` int16 [T, C, H, W] (`NO_DATA` where missing), `dates` datetime64[D] [T] strictly
    increasing, `bands` the names of the C channels. Optical values are reflectance × 10000, radar values dB × 100."""

    values: NDArray[np.int16]
    dates: NDArray[np.datetime64]
    bands: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.values.ndim != 4 or self.values.dtype != np.int16:
            raise ValueError(f"values must be int16 [T, C, H, W], got {self.values.dtype} {self.values.shape}")
        if len(self.dates) != len(self.values) or self.values.shape[1] != len(self.bands):
            raise ValueError(f"{len(self.dates)} dates and {len(self.bands)} bands do not describe {self.values.shape}")
        if len(self.dates) > 1 and not (np.diff(self.dates) > np.timedelta64(0, "D")).all():
            raise ValueError("dates must be strictly increasing")

    def __len__(self) -> int:
        return len(self.dates)

    def select(self, frames: NDArray[np.integer] | NDArray[np.bool_] | slice) -> Acquisitions:
        """Only the acquisitions selected by `frames`, which must be in ascending order."""
        return Acquisitions(self.values[frames], self.dates[frames], self.bands)


@dataclass(frozen=True)
class TileSeries:
    """A tile: one optical series, its clouds, and any number of radar series on the same H×W grid.

    - `clouds`: uint8 [T, H, W] (0 clear, 1 thick, 2 thin, 3 shadow, 255 no data), or None if not yet detected.
    - `radar`: track (`S1A` ascending, `S1D` descending) → series.
    - `layers`: other data from the source (`labels`, `bad_frames`, …), arrays of any shape by name.
    - `other_clouds`: masks that the source has from other methods (`s2cloudless`), by method.
    - `properties`: what the source says about the tile as a whole (`fold`, `source`, …), as JSON values.
    - `remarks`: what was left out when reading the tile, or is probably wrong with it, one line each, to be shown to
      the user; never stored.
    """

    tile_id: str
    optical: Acquisitions
    clouds: NDArray[np.uint8] | None = None
    radar: dict[str, Acquisitions] = field(default_factory=dict)
    georeference: Georeference | None = None
    properties: dict[str, str | int | float] = field(default_factory=dict)
    layers: dict[str, NDArray[np.integer]] = field(default_factory=dict)
    other_clouds: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        frames, _, height, width = self.optical.values.shape
        for clouds in [*self.other_clouds.values(), *([] if self.clouds is None else [self.clouds])]:
            if clouds.shape != (frames, height, width) or clouds.dtype != np.uint8:
                raise ValueError(f"clouds must be uint8 {(frames, height, width)}, got {clouds.dtype} {clouds.shape}")
        for track, series in self.radar.items():
            if series.values.shape[2:] != (height, width):
                raise ValueError(f"radar {track} lies on {series.values.shape[2:]}, optical on {(height, width)}")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.optical.values.shape[2], self.optical.values.shape[3]

    def missing(self) -> NDArray[np.bool_]:
        """Gap mask [T, H, W]: cloud, shadow or no data in any band."""
        gaps = (self.optical.values == NO_DATA).any(axis=1)
        return gaps if self.clouds is None else gaps | (self.clouds != CLEAR)

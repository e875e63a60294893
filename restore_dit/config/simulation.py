"""What simulated tiles look like: their size, period, weather and sensors."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

from pydantic import Field

from restore_dit.config.examples import Fraction, Positive, Section


class SimulationConfig(Section):
    """Simulated Sentinel-1 and Sentinel-2 series of farmland. A tile follows from this, a seed and its index alone."""

    height: Positive = Field(128, description="rows of a tile, pixels of 10 m")
    width: Positive = Field(128, description="columns of a tile, pixels of 10 m")
    start: date = Field(date(2018, 9, 1), description="first day that may have an acquisition")
    days: Positive = Field(425, description="length of the period")
    field_hectares: float = Field(3.0, gt=0, description="median area of a field")
    latitude: float = Field(47.0, ge=0, le=70, description="degrees north: sets the sun's height")
    january: float = Field(4.0, description="mean temperature of January in °C: sets how often it freezes and snows")
    relief: float = Field(0.0, ge=0, le=1, description="slope of the ground, root mean square; shades by the sun")
    woods: Fraction = Field(0.2, description="mean share of the land that woods cover")
    vigour: float = Field(0.55, gt=0, description="leaf area of all plants, against that of rich, moist farmland")
    mottle: float = Field(
        0.0,
        ge=0,
        description="differences of leaf area and soil between neighbouring pixels, natural logarithm, 1 sigma: "
        "scattered trees, orchards, rough ground",
    )
    season_lead: int = Field(0, description="days by which plants are ahead of those of northern France")
    summer_drought: Fraction = Field(0.0, description="how far grass dies back from May to October")
    cloudiness: Fraction = Field(0.35, description="mean cloud cover over the days of the period")
    cloudiness_spread: float = Field(0.5, ge=0, description="differences between tiles' cloudiness, on the logit scale")
    mask_errors: Fraction = Field(
        1.0, description="errors of the cloud masks: 1 as a real detector's, 0 none, so that what they call clear is"
    )
    registration_error: float = Field(0.45, ge=0, description="a frame's shift along each axis, pixels, 1 sigma")
    varied: bool = Field(
        False,
        description="each tile draws its own climate, land, period, archive and errors, and brings its true masks",
    )
    orbit_overlap: bool = Field(False, description="a second Sentinel-2 orbit sees the tile, with its own view angle")
    dropped: Fraction = Field(0.3, description="share of Sentinel-2 passes that the archive lacks")
    overcast_dropped: Fraction = Field(0.9, description="share of overcast passes left out of the archive on top")
    partial_swath: Fraction = Field(0.0, description="share of optical frames that the edge of the swath cuts")
    frame_offsets: float = Field(
        1.0, ge=0, description="strength of what atmospheric correction leaves of a date; 1 as in real series, 0 none"
    )
    radar_tracks: tuple[Literal["S1A", "S1D"], ...] = Field(("S1A", "S1D"), description="ascending, descending")
    radar_dropped: Fraction = Field(0.03, description="share of Sentinel-1 passes that the archive lacks")
    speckle_looks: float = Field(
        6.5,
        gt=0,
        description="equivalent number of looks: IW GRD products have 4.4, and resampling to the grid averages",
    )


class SimulationJobConfig(SimulationConfig):
    """Simulated tiles into a tile store: what they look like, and how many there are to be."""

    output: str = Field("", description="URI of the tile store")
    tiles: Positive = Field(24, description="number of tiles")
    first: int = Field(0, ge=0, description="index of the first tile")
    seed: int = Field(0, ge=0, description="seed of the simulated area")
    workers: int | None = Field(
        None, ge=0, description="Ray tasks at a time; none: one a CPU, this process for little work; 0: this process"
    )
    commit_every: Positive = Field(64, description="tiles between two commits of the store")

    @property
    def simulation(self) -> SimulationConfig:
        """What the tiles look like."""
        return SimulationConfig.model_validate(self.model_dump(include=set(SimulationConfig.model_fields)))


CLIMATES: dict[str, dict[str, float]] = {
    "t30uxv": {"latitude": 49.2, "january": 6.0, "cloudiness": 0.46, "cloudiness_spread": 0.0},
    "t31tfj": {"latitude": 43.8, "january": 6.0, "cloudiness": 0.22, "cloudiness_spread": 0.0},
    "t31tfm": {"latitude": 46.5, "january": 3.5, "cloudiness": 0.39, "cloudiness_spread": 0.0},
    "t32ulu": {"latitude": 47.4, "january": 2.5, "cloudiness": 0.36, "cloudiness_spread": 0.0},
    "flanders": {
        "latitude": 50.9,
        "january": 4.0,
        "cloudiness": 0.42,
        "cloudiness_spread": 0.0,
        "overcast_dropped": 0.0,
        "dropped": 0.1,
        "field_hectares": 1.5,
        "woods": 0.03,
        "vigour": 0.9,
    },
}
"""What differs from the defaults, which are a mixture of the four, in the tiles of PASTIS-R; and in Flanders, where the
archive of the real test sites kept overcast passes too."""


def climate(name: str, **changes: Any) -> SimulationConfig:
    """The settings of one of `CLIMATES`, with further changes."""
    return SimulationConfig.model_validate(CLIMATES[name] | changes)

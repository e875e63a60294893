"""What simulated tiles look like: their size, period, weather and sensors."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

from pydantic import Field, model_validator

from restore_dit.config.examples import CommitSeconds, Fraction, Positive, Section


class SimulationConfig(Section):
    """Simulated Sentinel-1 and Sentinel-2 series of farmland. A tile depends only on these settings, a seed and its
    index."""

    height: Positive = Field(128, description="rows of a tile, in pixels of 10 m")
    width: Positive = Field(128, description="columns of a tile, in pixels of 10 m")
    start: date = Field(date(2018, 9, 1), description="first day on which an acquisition may occur")
    days: Positive = Field(425, description="length of the period in days")
    field_hectares: float = Field(3.0, gt=0, description="median area of a field in hectares")
    latitude: float = Field(47.0, ge=0, le=70, description="latitude in degrees north: determines the sun's elevation")
    january: float = Field(4.0, description="mean January temperature in °C: determines how often it freezes and snows")
    relief: float = Field(
        0.0, ge=0, le=1, description="root mean square slope of the ground, which causes topographic shading"
    )
    woods: Fraction = Field(0.2, description="mean share of the land covered by woods")
    vigour: float = Field(0.55, gt=0, description="leaf area of all plants relative to rich, moist farmland")
    mottle: float = Field(
        0.0,
        ge=0,
        description="standard deviation (natural logarithm) of leaf area and soil differences between neighbouring "
        "pixels: scattered trees, orchards, rough ground",
    )
    season_lead: int = Field(0, description="days by which the growing season is ahead of that of northern France")
    summer_drought: Fraction = Field(0.0, description="how strongly grass dies back from May to October")
    cloudiness: Fraction = Field(0.35, description="mean cloud cover over the days of the period")
    cloudiness_spread: float = Field(0.5, ge=0, description="variation of cloudiness between tiles, on the logit scale")
    mask_errors: Fraction = Field(1.0, description="error level of the cloud masks: 1 as in a real detector, 0 none")
    registration_error: float = Field(
        0.45, ge=0, description="standard deviation of a frame's shift along each axis, in pixels"
    )
    varied: bool = Field(
        False,
        description="each tile draws its own climate, land, period, archive and errors, and includes its true masks",
    )
    orbit_overlap: bool = Field(
        False, description="a second Sentinel-2 orbit, with its own view angle, covers the tile"
    )
    dropped: Fraction = Field(0.3, description="share of Sentinel-2 passes missing from the archive")
    overcast_dropped: Fraction = Field(0.9, description="additional share of overcast passes missing from the archive")
    partial_swath: Fraction = Field(0.0, description="share of optical frames cut off by the edge of the swath")
    frame_offsets: float = Field(
        1.0,
        ge=0,
        description="strength of the residual errors of atmospheric correction per date; 1 as in real series, 0 none",
    )
    radar_tracks: tuple[Literal["S1A", "S1D"], ...] = Field(("S1A", "S1D"), description="ascending, descending")
    radar_dropped: Fraction = Field(0.03, description="share of Sentinel-1 passes missing from the archive")
    speckle_looks: float = Field(
        6.5,
        gt=0,
        description="equivalent number of looks: IW GRD products have 4.4, which the averaging of resampling to the "
        "grid increases",
    )


class SimulationJobConfig(SimulationConfig):
    """Simulation of tiles: their appearance, their number, and where they are written."""

    output: str = Field("", description="URI of the tile store, or of the folder for the files of another layout")
    layout: Literal["store", "pastis", "netcdf"] = Field(
        "store",
        description="store: a tile store; pastis: a folder laid out like PASTIS-R; netcdf: one NetCDF file per tile",
    )
    dates: str = Field("", description="pastis: URI of a JSON file with the acquisition dates of its four tiles")
    bad_frames: str = Field("", description="pastis: URI of a bad_frames.json from which to copy patches and lists")
    tiles: Positive = Field(24, description="number of tiles")
    first: int = Field(0, ge=0, description="index of the first tile")
    seed: int = Field(0, ge=0, description="seed of the simulated area")
    workers: int | None = Field(
        None,
        ge=0,
        description="concurrent Ray tasks; 0: this process; if unset, one per CPU, or this process for little work",
    )
    commit_every: CommitSeconds = 10.0

    @model_validator(mode="after")
    def _possible(self) -> SimulationJobConfig:
        if self.layout != "pastis" and (self.dates or self.bad_frames):
            raise ValueError("dates and bad_frames require layout 'pastis'")
        if self.layout == "pastis" and self.first:
            raise ValueError("first: not available with layout 'pastis', which starts with the first patches")
        if self.layout != "store" and self.workers:
            raise ValueError(f"workers: not available with layout '{self.layout}', which one process writes")
        return self

    @property
    def simulation(self) -> SimulationConfig:
        """The settings that determine what the tiles look like."""
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
"""Settings that differ from the defaults (a mixture of the four) in each of the tiles of PASTIS-R, and in Flanders,
where the archive of the real test sites also kept overcast passes."""


def climate(name: str, **changes: Any) -> SimulationConfig:
    """The settings of one of `CLIMATES`, with further changes applied."""
    return SimulationConfig.model_validate(CLIMATES[name] | changes)

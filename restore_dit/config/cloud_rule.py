"""Thresholds of the physical rule, which detects clouds and shadows without a network."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from restore_dit.config.examples import Fraction, Section


class RuleConfig(Section):
    """Thresholds of the physical rule. Reflectance is 0–1; `docs/cloud_rule.md` explains each setting."""

    cloud_excess: float = Field(
        0.04,
        gt=0,
        description="minimum reflectance above the clear reference, in the shortest-wavelength band, for a pixel to "
        "be cloud",
    )
    haze_excess: float = Field(
        0.025,
        gt=0,
        description="lower threshold that applies where the mean excess over the surrounding `haze_width` also "
        "reaches it: haze is extensive",
    )
    haze_width: float = Field(
        600.0, gt=0, description="side length in metres of the square over which the haze excess is averaged"
    )
    thick_excess: float = Field(
        0.15,
        gt=0,
        description="minimum reflectance above the clear reference for cloud to be thick, without the soil correction",
    )
    soil_share: Fraction = Field(
        0.5, description="share of the change in B11 that is subtracted: bare soil brightens B11 more than cloud does"
    )
    bright: float = Field(
        0.2,
        gt=0,
        description="minimum reflectance of spectrally white land to be cloud when there is no clear reference "
        "(fewer than 5 dates)",
    )
    snow_index: float = Field(
        0.4, ge=-1, le=1, description="minimum normalised difference of B03 and B11 (NDSI) for snow"
    )
    snow_b11: float = Field(
        0.17, gt=0, description="maximum reflectance in B11 for snow; brighter pixels may be ice cloud"
    )
    snow_sun: float = Field(
        55.0, ge=0, le=90, description="minimum solar zenith angle in degrees for snow to be considered"
    )
    snow: Literal["no_data", "clear"] = Field(
        "no_data", description="class assigned to snow; no_data matches how scene classifications are read"
    )
    shadow_ratio: Fraction = Field(
        0.8,
        description="maximum near- and short-wave-infrared reflectance relative to the clear reference for a shadow "
        "that a cloud within the tile can cast",
    )
    shadow_ratio_outside: Fraction = Field(
        0.6,
        description="the same where only a cloud beyond the tile's edge can cast it, or where the sun's position is "
        "unknown",
    )
    shadow_drop: float = Field(0.03, ge=0, description="minimum decrease in reflectance for a shadow")
    lowest_cloud: float = Field(200.0, ge=0, description="minimum cloud height above the ground in metres")
    highest_cloud: float = Field(10_000.0, gt=0, description="maximum cloud height above the ground in metres")
    outside_cloud: float = Field(
        2_000.0, ge=0, description="maximum height above the ground in metres of clouds beyond the tile's edge"
    )
    shadow_tolerance: float = Field(
        60.0, ge=0, description="maximum distance in metres between a shadow and its expected position"
    )
    smallest: float = Field(
        2_000.0,
        ge=0,
        description="minimum area in square metres of a patch of cloud or shadow; smaller patches are dropped",
    )
    cloud_growth: float = Field(0.0, ge=0, description="metres by which clouds are dilated at the end")
    shadow_growth: float = Field(0.0, ge=0, description="metres by which shadows are dilated at the end")

    @model_validator(mode="after")
    def _in_order(self) -> RuleConfig:
        if self.thick_excess < self.cloud_excess:
            raise ValueError(f"thick_excess {self.thick_excess} must be at least cloud_excess {self.cloud_excess}")
        if self.highest_cloud < self.lowest_cloud:
            raise ValueError(f"highest_cloud {self.highest_cloud} must be at least lowest_cloud {self.lowest_cloud}")
        return self

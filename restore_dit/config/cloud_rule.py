"""Thresholds of the physical rule that finds clouds and shadows without a network."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from restore_dit.config.examples import Fraction, Section


class RuleConfig(Section):
    """Thresholds of the physical rule. Reflectance is 0–1; `docs/cloud_rule.md` says what each does."""

    cloud_excess: float = Field(
        0.04, gt=0, description="reflectance above the clear reference, in the shortest band, from which there is cloud"
    )
    haze_excess: float = Field(
        0.025, gt=0, description="the same where it is so bright on average for `haze_width` around, too: haze is wide"
    )
    haze_width: float = Field(600.0, gt=0, description="side in metres of the square that haze fills")
    thick_excess: float = Field(
        0.15, gt=0, description="reflectance above the clear reference from which cloud is thick, no soil taken off"
    )
    soil_share: Fraction = Field(
        0.5, description="share of the change in B11 that is taken off: bare soil brightens there more than cloud"
    )
    bright: float = Field(
        0.2,
        gt=0,
        description="reflectance from which white land is cloud where there is no clear reference: fewer than 5 dates",
    )
    snow_index: float = Field(
        0.4, ge=-1, le=1, description="normalised difference of B03 and B11 from which it is snow"
    )
    snow_b11: float = Field(0.17, gt=0, description="reflectance in B11 up to which it may be snow, not ice cloud")
    snow_sun: float = Field(55.0, ge=0, le=90, description="sun's zenith angle in degrees from which there may be snow")
    snow: Literal["no_data", "clear"] = Field(
        "no_data", description="class of snow; no_data as scene classifications are read"
    )
    shadow_ratio: Fraction = Field(
        0.8,
        description="reflectance in near and short-wave infrared, as a share of the clear reference, up to which "
        "there is shadow where a cloud of the tile can cast one",
    )
    shadow_ratio_outside: Fraction = Field(
        0.6, description="the same where only a cloud beyond the tile's edge can, or where the sun is unknown"
    )
    shadow_drop: float = Field(0.03, ge=0, description="least loss of reflectance in a shadow")
    lowest_cloud: float = Field(200.0, ge=0, description="metres above the ground")
    highest_cloud: float = Field(10_000.0, gt=0, description="metres above the ground")
    outside_cloud: float = Field(2_000.0, ge=0, description="most metres above the ground of clouds beyond the edge")
    shadow_tolerance: float = Field(60.0, ge=0, description="metres that a shadow may lie beside where it is expected")
    smallest: float = Field(
        2_000.0, ge=0, description="square metres below which a patch of cloud or shadow is dropped"
    )
    cloud_growth: float = Field(0.0, ge=0, description="metres by which clouds are widened at the end")
    shadow_growth: float = Field(0.0, ge=0, description="metres by which shadows are widened at the end")

    @model_validator(mode="after")
    def _in_order(self) -> RuleConfig:
        if self.thick_excess < self.cloud_excess:
            raise ValueError(f"thick_excess {self.thick_excess} must not be below cloud_excess {self.cloud_excess}")
        if self.highest_cloud < self.lowest_cloud:
            raise ValueError(f"highest_cloud {self.highest_cloud} must not be below lowest_cloud {self.lowest_cloud}")
        return self

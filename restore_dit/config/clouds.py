"""Cloud and shadow masks: how they are detected, by which thresholds of the rule and in which bands of a network."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from restore_dit.config.examples import CommitSeconds, Fraction, Positive, Section


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


PUBLISHED_BANDS = ("B02", "B03", "B04", "B8A")
"""Input bands of the published cloud network."""


class CloudNetworkConfig(Section):
    """A U-Net that maps reflectance to the classes clear, thick cloud, thin cloud and shadow."""

    encoder: str = Field("mobilenet_v2", description="name of the encoder in segmentation_models_pytorch")
    bands: tuple[str, ...] = Field(PUBLISHED_BANDS, min_length=1, description="input bands in the network's order")
    reference: bool = Field(
        False, description="additional inputs: the same bands of the tile's clear reference at each date"
    )
    missing_bands: bool = Field(False, description="a tile may lack some of the bands, which are then set to 0")
    pixel_size: float | None = Field(
        None,
        gt=0,
        description="pixel size in metres that the network was trained on and tiles are resampled to; if unset, "
        "tiles are not resampled",
    )

    padding: Literal["least", "published"] = Field(
        "least",
        description="how frames are padded by reflection to multiples of 32. least: as little as possible; "
        "published: like the published script, which adds 32 even to sizes that are already multiples",
    )

    @model_validator(mode="after")
    def _no_band_twice(self) -> CloudNetworkConfig:
        if len(set(self.bands)) < len(self.bands):
            raise ValueError(f"bands {', '.join(self.bands)}: each may be listed only once")
        return self

    @property
    def channels(self) -> int:
        """Number of input channels of the network."""
        return len(self.bands) * (2 if self.reference else 1)


class DetectionConfig(Section):
    """Cloud detection for the tiles of a store."""

    store: str = Field("", description="URI of the tile store")
    method: Literal["network", "rule", "csmask", "source", "s2cloudless"] = Field(
        "rule",
        description="network: needs weights; rule: physical, needs no weights; csmask: clouds by the networks of the "
        "package ukis-csmask, an extra, and shadows by the rule; source, s2cloudless: masks that came with the tiles. "
        "By default network if weights are given, otherwise rule",
    )
    weights: str = Field("", description="network: URI of a model directory or of a published state dict")
    network: CloudNetworkConfig = Field(
        CloudNetworkConfig(), description="architecture of a published state dict; a model directory describes its own"
    )
    rule: RuleConfig = Field(RuleConfig(), description="rule, and csmask for its shadows")
    tiles: tuple[str, ...] = Field((), description="tile ids; if empty, all tiles")
    clear_bias: float = Field(
        0.0,
        description="network: added to the logit of the clear class; above 0, less land is classified as cloud or "
        "shadow, and more cloud and shadow is missed",
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="number format of the network: fp32 or, faster on GPUs, bf16"
    )
    batch_size: Positive = Field(
        16,
        description="frames of 128×128 pixels per forward pass, from any tiles; proportionally fewer if larger",
    )
    workers: int | None = Field(
        None,
        ge=0,
        description="Ray actors that process tiles; 0: this process; if unset, one per CPU (with use_gpu, per GPU), "
        "or this process for only a few tiles",
    )
    use_gpu: bool = Field(False, description="network: run it on GPUs")
    commit_every: CommitSeconds = 10.0

    @model_validator(mode="before")
    @classmethod
    def _method_follows_weights(cls, tree: Any) -> Any:
        if isinstance(tree, dict) and tree.get("weights") and tree.get("method") is None:
            return {**tree, "method": "network"}
        return tree

    @model_validator(mode="after")
    def _options_of_a_network(self) -> DetectionConfig:
        for name in ("weights", "use_gpu", "clear_bias"):
            if self.method != "network" and getattr(self, name):
                raise ValueError(
                    f"{name} applies to method 'network' only, not '{self.method}'; remove one of the two settings"
                )
        return self

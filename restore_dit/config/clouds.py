"""Cloud and shadow masks: what finds them, in which bands, and how a network for them is trained."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from restore_dit.config.cloud_rule import RuleConfig
from restore_dit.config.examples import Positive, Section

PUBLISHED_BANDS = ("B02", "B03", "B04", "B8A")
"""Inputs of the published cloud network."""


class CloudNetworkConfig(Section):
    """A U-Net from reflectance to the classes clear, thick cloud, thin cloud and shadow."""

    encoder: str = Field("mobilenet_v2", description="encoder's name in segmentation_models_pytorch")
    bands: tuple[str, ...] = Field(PUBLISHED_BANDS, min_length=1, description="inputs in the network's order")
    reference: bool = Field(
        False, description="further inputs: the same bands of the tile's own clear reference at each date"
    )
    missing_bands: bool = Field(False, description="a tile may lack some of the bands: they enter as 0")
    pixel_size: float | None = Field(
        None, gt=0, description="metres that the network learned on; tiles are resampled to it; none: as they are"
    )

    padding: Literal["least", "published"] = Field(
        "least",
        description="frames are reflected to multiples of 32: the least that hold them, or as the published script "
        "does, which adds 32 to sizes that are multiples already",
    )

    @model_validator(mode="after")
    def _no_band_twice(self) -> CloudNetworkConfig:
        if len(set(self.bands)) < len(self.bands):
            raise ValueError(f"bands {', '.join(self.bands)}: each may stand there once")
        return self

    @property
    def channels(self) -> int:
        """Inputs of the network."""
        return len(self.bands) * (2 if self.reference else 1)


class DetectionConfig(Section):
    """Masks for the tiles of a store."""

    store: str = Field("", description="URI of the tile store")
    method: Literal["network", "rule", "source", "s2cloudless"] = Field(
        "rule",
        description="network: by weights; rule: physical, needs no weights; source, s2cloudless: masks that came with "
        "the tiles; unsaid: network where weights are named, else rule",
    )
    weights: str = Field("", description="network: URI of a model directory, or of a published state dict")
    network: CloudNetworkConfig = Field(
        CloudNetworkConfig(), description="the network of a published state dict; a model directory says its own"
    )
    rule: RuleConfig = RuleConfig()
    tiles: tuple[str, ...] = Field((), description="tile ids; none: all")
    clear_bias: float = Field(
        0.0,
        description="network: added to the logit of clear before the largest counts; above 0 less land is taken for "
        "cloud or shadow, and more of these are missed",
    )
    precision: Literal["fp32", "bf16"] = "fp32"
    batch_size: Positive = Field(
        16,
        description="frames of 128×128 that go through the network at once, of whichever tiles; fewer of larger ones",
    )
    workers: int | None = Field(
        None,
        ge=0,
        description="Ray actors over tiles; 0: this process; none: one a CPU (with use_gpu a GPU), this process for a "
        "few tiles",
    )
    use_gpu: bool = False
    commit_every: Positive = Field(
        16, description="tiles between commits of the store, more where commits would take a twentieth of the time"
    )

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
                raise ValueError(f"{name} is for networks, and method is {self.method}: leave one of them out")
        return self

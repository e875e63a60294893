"""How a network for cloud and shadow masks is trained: what it learns from, how it is scored, and how it is fitted."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.config.examples import Fraction, Positive, Section
from restore_dit.series import S2_BANDS

TRAINED_NETWORK = CloudNetworkConfig(bands=S2_BANDS, reference=True, missing_bands=True, pixel_size=10.0)
"""What is trained unless told otherwise: all bands that the tiles have, beside their own clear reference."""


class FrameSharesConfig(Section):
    """How often frames of each kind are drawn, where a tile has them; most frames are all clear or all cloud."""

    mixed: float = Field(0.6, ge=0, description="both clear land and cloud or shadow")
    clear: float = Field(0.2, ge=0, description="hardly any cloud or shadow")
    covered: float = Field(0.2, ge=0, description="hardly any clear land")

    @model_validator(mode="after")
    def _some(self) -> FrameSharesConfig:
        if self.mixed + self.clear + self.covered <= 0:
            raise ValueError("mixed, clear and covered: one of them must be above 0")
        return self


class CloudAugmentationConfig(Section):
    """How examples vary beyond what the stores show."""

    flips: bool = Field(True, description="mirror and transpose")
    zoom: float = Field(1.25, ge=1, description="largest factor by which an example is enlarged or reduced; 1: none")
    brightness: float = Field(
        0.1, ge=0, description="gain of frame and reference together, natural logarithm, standard deviation"
    )
    frame_gain: float = Field(
        0.03, ge=0, description="gain of the frame against its reference, common to all bands, likewise"
    )
    band_gain: float = Field(0.02, ge=0, description="gain of each band of the frame, likewise")
    offset: float = Field(0.004, ge=0, description="reflectance added to the frame, standard deviation")
    noise: float = Field(0.003, ge=0, description="reflectance added to each pixel and band, standard deviation")
    band_dropout: Fraction = Field(0.2, description="share of examples that lack bands, with network.missing_bands")
    band_subsets: tuple[tuple[str, ...], ...] = Field(
        (("B05", "B06", "B07", "B8A", "B11", "B12"), ("B02", "B03", "B04", "B08"), ("B02", "B03", "B04", "B8A")),
        description="bands that tiles are known to come with: half of the examples that lack bands keep one of these "
        "subsets, the other half bands picked at random",
    )
    reference_dropout: Fraction = Field(
        0.05, description="share of examples without clear reference, for tiles of a single date"
    )


class CloudLossConfig(Section):
    """What the network is punished for."""

    balance: Fraction = Field(
        0.0,
        description="classes weigh by their frequency to the power of minus this: 0 all the same, 1 the rarer the more",
    )
    label_smoothing: Fraction = Field(0.0, description="share of each label that is spread over all classes")
    focal: float = Field(0.0, ge=0, description="exponent with which pixels that are right already weigh less; 0: none")
    dice: float = Field(0.0, ge=0, description="weight of a Dice loss beside cross-entropy")


class CloudOptimiserConfig(Section):
    """AdamW, its learning rate through the run, and the average of its weights."""

    learning_rate: float = Field(2e-3, gt=0, description="the highest, after the warm-up; falls as a cosine to nothing")
    weight_decay: float = Field(0.01, ge=0)
    warmup: Fraction = Field(0.05, description="share of the steps over which the learning rate rises")
    gradient_clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(0.99, description="0: no average, the weights themselves")


class CloudValidationConfig(Section):
    """What training never learns from, and what the weights are chosen by: the mean over the stores of the F1 of cloud
    and that of shadow."""

    share: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.2,
        description="other tiles, at least one, while all dates of the others are learned from; of a store of a single "
        "tile other dates: one block in every 1/share, rounded, at least one; 0: nothing",
    )
    block: Positive = Field(
        8,
        description="acquisitions in a row that are held out together where dates are split: clouds, haze and the "
        "state of the ground outlast a date",
    )
    frames: Positive = Field(400, description="most frames of each store that are scored, seeded")
    every: Positive = Field(100, description="steps between validations")


class CloudTrainingConfig(Section):
    """Training of a cloud network on labelled tile stores."""

    stores: tuple[str, ...] = Field((), description="URIs of tile stores with cloud masks")
    labels: Literal["source", "s2cloudless"] = Field(
        "source", description="the masks to learn from, of those that came with the tiles"
    )
    output: str = Field("clouds", description="URI of the model directory; holds the run's state until it is finished")
    network: CloudNetworkConfig = TRAINED_NETWORK
    bands_in_common: bool = Field(
        True,
        description="of network.bands only those that all stores have, so that the network cannot tell stores, and the "
        "errors of each one's labels, apart by the bands that they lack",
    )
    shares: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (), description="share of the examples that each store gives, in the order of stores; none: by store_balance"
    )
    store_balance: Fraction = Field(
        0.8,
        description="0: stores give examples in proportion to their pixels; 1: all equally many; between them by the "
        "pixels to the power of one minus this, so that a small real site does not drown",
    )
    frames: FrameSharesConfig = FrameSharesConfig()
    augmentation: CloudAugmentationConfig = CloudAugmentationConfig()
    loss: CloudLossConfig = CloudLossConfig()
    optimiser: CloudOptimiserConfig = CloudOptimiserConfig()
    validation: CloudValidationConfig = CloudValidationConfig()
    steps: Positive = Field(1000, description="optimiser steps")
    batch_size: Positive = Field(16, description="examples a step")
    crop: int = Field(64, ge=32, description="side of an example in the network's pixels, a multiple of 32")
    memory_gigabytes: float = Field(
        4.0,
        gt=0,
        description="decoded tiles kept in memory; of larger stores a seeded part that changes as training goes",
    )
    part_steps: Positive = Field(200, description="steps that each part of stores larger than the memory serves")
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    use_gpu: bool = False
    threads: int = Field(0, ge=0, description="of the CPU; 0: as many as there are cores")
    save_every: Positive = Field(200, description="steps between saved states")
    log_every: Positive = Field(10, description="steps that a reported loss is averaged over")

    @field_validator("network", mode="before")
    @classmethod
    def _as_trained(cls, network: Any) -> Any:
        """What a file or an override leaves out is as in `TRAINED_NETWORK`, not as in the published network."""
        return TRAINED_NETWORK.model_dump() | network if isinstance(network, dict) else network

    @model_validator(mode="after")
    def _consistent(self) -> CloudTrainingConfig:
        if self.crop % 32:
            raise ValueError(f"crop {self.crop} must be a multiple of 32: the network halves its input five times")
        if self.shares and len(self.shares) != len(self.stores):
            raise ValueError(f"{len(self.shares)} shares do not fit {len(self.stores)} stores: give one for each")
        if len(set(self.stores)) < len(self.stores):
            raise ValueError("stores: each may stand there once")
        return self

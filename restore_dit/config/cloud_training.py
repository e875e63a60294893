"""How a network for cloud and shadow masks is trained: data, validation, loss and optimiser."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.config.examples import Fraction, Positive, Section
from restore_dit.config.tree import OptimiserConfig, TrackingConfig, TrainingConfig
from restore_dit.series import S2_BANDS

TRAINED_NETWORK = CloudNetworkConfig(bands=S2_BANDS, reference=True, missing_bands=True, pixel_size=10.0)
"""Default network for training: all bands that the tiles have, together with their clear reference."""


class FrameSharesConfig(Section):
    """How often frames of each kind are drawn, where a tile has them. Most frames are entirely clear or entirely
    cloudy."""

    mixed: float = Field(0.6, ge=0, description="share of frames with both clear land and cloud or shadow")
    clear: float = Field(0.2, ge=0, description="share of frames with hardly any cloud or shadow")
    covered: float = Field(0.2, ge=0, description="share of frames with hardly any clear land")

    @model_validator(mode="after")
    def _some(self) -> FrameSharesConfig:
        if self.mixed + self.clear + self.covered <= 0:
            raise ValueError("mixed, clear and covered: at least one must be above 0")
        return self


class CloudAugmentationConfig(Section):
    """Augmentation of the training examples."""

    flips: bool = Field(True, description="mirror and transpose examples at random")
    zoom: float = Field(1.25, ge=1, description="maximum factor by which an example is enlarged or reduced; 1: off")
    brightness: float = Field(
        0.1,
        ge=0,
        description="gain applied to frame and reference together: standard deviation of its natural logarithm",
    )
    frame_gain: float = Field(
        0.03,
        ge=0,
        description="gain of the frame relative to its reference, common to all bands: standard deviation of its "
        "natural logarithm",
    )
    band_gain: float = Field(
        0.02, ge=0, description="gain of each band of the frame: standard deviation of its natural logarithm"
    )
    offset: float = Field(0.004, ge=0, description="standard deviation of the reflectance offset added to the frame")
    noise: float = Field(
        0.003, ge=0, description="standard deviation of the reflectance noise added to each pixel and band"
    )
    band_dropout: Fraction = Field(
        0.2, description="share of examples with some bands left out; needs network.missing_bands"
    )
    band_subsets: tuple[tuple[str, ...], ...] = Field(
        (("B05", "B06", "B07", "B8A", "B11", "B12"), ("B02", "B03", "B04", "B08"), ("B02", "B03", "B04", "B8A")),
        description="band combinations that tiles are known to have: half of the examples with bands left out keep "
        "one of these, the other half a random set of bands",
    )
    reference_dropout: Fraction = Field(
        0.05, description="share of examples without a clear reference, for tiles with a single date"
    )


class CloudLossConfig(Section):
    """The training loss."""

    balance: Fraction = Field(
        0.0,
        description="classes are weighted by their frequency to the power of minus this: 0 weights all equally, 1 "
        "inversely to their frequency",
    )
    label_smoothing: Fraction = Field(0.0, description="share of each label that is spread over all classes")
    focal: float = Field(
        0.0,
        ge=0,
        description="focal-loss exponent, which down-weights pixels that are already classified correctly; 0: off",
    )
    dice: float = Field(0.0, ge=0, description="weight of a Dice loss added to the cross-entropy; 0: off")


class CloudOptimiserConfig(Section):
    """AdamW, its learning-rate schedule, and the moving average of the weights."""

    learning_rate: float = Field(
        2e-3, gt=0, description="peak learning rate, after warm-up; decays to zero along a cosine"
    )
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay (AdamW)")
    warmup: Fraction = Field(0.05, description="share of the steps over which the learning rate rises")
    gradient_clip: float = Field(1.0, gt=0, description="maximum norm of the gradient")
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.99, description="decay of the exponential moving average of the weights; 0: off"
    )


class CloudValidationConfig(Section):
    """What is held out from training to select the weights. The score is the mean, over the stores, of the F1 scores of
    cloud and of shadow."""

    share: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.2,
        description="share held out: of the tiles, at least one; in a store with a single tile, of the dates, one "
        "block in every 1/share (rounded), at least one; 0: nothing",
    )
    block: Positive = Field(
        8,
        description="consecutive acquisitions that are held out together when dates are split: clouds, haze and "
        "ground conditions persist beyond one date",
    )
    frames: Positive = Field(400, description="maximum number of frames scored per store, drawn with a seed")
    every: Positive = Field(100, description="steps between validations")


class CloudTrainingConfig(Section):
    """Training of a cloud network on labelled tile stores."""

    stores: tuple[str, ...] = Field((), description="URIs of tile stores with cloud masks")
    labels: Literal["source", "s2cloudless"] = Field(
        "source", description="which of the masks that came with the tiles to learn from"
    )
    output: str = Field(
        "models/clouds", description="URI of the model directory; also holds the run's state until it is finished"
    )
    network: CloudNetworkConfig = TRAINED_NETWORK
    bands_in_common: bool = Field(
        True,
        description="use only those of network.bands that all stores have; otherwise the network could tell stores, "
        "and the label errors of each, apart by their missing bands",
    )
    shares: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (),
        description="share of the examples that each store contributes, in the order of stores; if empty, set by "
        "store_balance",
    )
    store_balance: Fraction = Field(
        0.8,
        description="stores are weighted by their number of pixels to the power of one minus this, so that a small "
        "real site is not drowned out: 0 in proportion to their pixels, 1 all equally",
    )
    frames: FrameSharesConfig = FrameSharesConfig()
    augmentation: CloudAugmentationConfig = CloudAugmentationConfig()
    loss: CloudLossConfig = CloudLossConfig()
    optimiser: CloudOptimiserConfig = CloudOptimiserConfig()
    validation: CloudValidationConfig = CloudValidationConfig()
    steps: Positive = Field(1000, description="optimiser steps")
    batch_size: Positive = Field(16, description="examples per step")
    crop: int = Field(64, ge=32, description="side length of an example in pixels of the network, a multiple of 32")
    memory_gigabytes: float = Field(
        4.0,
        gt=0,
        description="memory for decoded tiles; of larger stores, a seeded subset that changes during training",
    )
    part_steps: Positive = Field(200, description="steps trained on each subset of stores that exceed the memory")
    seed: int = Field(0, description="seed of the weights, the examples and the split")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="number format of training")
    use_gpu: bool = Field(False, description="train on a GPU")
    threads: int = Field(0, ge=0, description="CPU threads; 0: one per core")
    save_every: Positive = Field(200, description="steps between saved states")
    log_every: Positive = Field(10, description="steps over which a reported loss is averaged")
    tracking: TrackingConfig = TrackingConfig()

    @property
    def training(self) -> TrainingConfig:
        """These settings as the trainer takes them."""
        optimiser = self.optimiser.model_dump(exclude={"warmup"})
        return TrainingConfig(
            batch_size=self.batch_size,
            optimiser=OptimiserConfig(**optimiser, warmup_steps=round(self.optimiser.warmup * self.steps)),
            precision=self.precision,
            validate_every=self.validation.every,
            save_every=self.save_every,
            log_every=self.log_every,
            log_examples=False,
        )

    @field_validator("network", mode="before")
    @classmethod
    def _as_trained(cls, network: Any) -> Any:
        """Settings that a file or an override leaves out are those of `TRAINED_NETWORK`, not of the published
        network."""
        return TRAINED_NETWORK.model_dump() | network if isinstance(network, dict) else network

    @model_validator(mode="after")
    def _consistent(self) -> CloudTrainingConfig:
        if self.crop % 32:
            raise ValueError(f"crop {self.crop} must be a multiple of 32: the network halves its input five times")
        if self.shares and len(self.shares) != len(self.stores):
            raise ValueError(f"{len(self.shares)} shares for {len(self.stores)} stores: give one per store")
        if len(set(self.stores)) < len(self.stores):
            raise ValueError("stores: each may be listed only once")
        return self

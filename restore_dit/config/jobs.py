"""What a job besides training does: the same tree for the command line and for `python -m jobs.NAME`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from restore_dit.config.examples import Positive, SamplerName, Section, TargetConfig

SHIPPED_MODEL = "default"
"""The name of the model that comes with the package, wherever a model directory may stand."""


class SamplingConfig(Section):
    """How the model is sampled."""

    steps: Positive | None = Field(None, description="diffusion steps; none: as the model's configuration says")
    sampler: SamplerName | None = Field(None, description="none: as the model's configuration says")
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    batch_size: Positive = Field(4, description="windows of a series that go through the network at once")
    use_gpu: bool = False
    calibrate: bool = Field(
        True,
        description="first hide and fill some clear dates of each series; where the model does worse than "
        "interpolation, blend towards interpolation; rescale its uncertainty to the errors found (networks of pixels)",
    )


class EvaluationConfig(Section):
    """A table of scores on tiles that training never read."""

    model: str = Field(SHIPPED_MODEL, description="URI of the model directory, or the shipped one's name")
    store: str = Field("", description="URI of the tile store")
    output: str = Field("evaluation", description="URI of the folder for table and figures")
    protocol: Literal["paper", "missing-frame"] = "paper"
    part: Literal["test", "all"] = Field(
        "test", description="test: what the model's own split keeps from training; all: a store it never saw"
    )
    tiles: Positive | None = Field(None, description="most tiles, the first in order; none: all")
    targets: TargetConfig | None = Field(
        None, description="which frames are shown and scored; none: those that the model might have trained on"
    )
    hidden_frames: Positive = Field(3, description="missing-frame: frames of a tile that are removed in turn, seeded")
    figures: int = Field(2, ge=0, description="tiles that get figures")
    workers: int = Field(0, ge=0, description="Ray actors over tiles; 0: this process")
    sampling: SamplingConfig = SamplingConfig()


class ReconstructionConfig(Section):
    """Gap-free series from cloudy ones."""

    model: str = Field(SHIPPED_MODEL, description="URI of the model directory, or the shipped one's name")
    input: str = Field("", description="URI of a tile store, or a data cube's folder")
    output: str = Field("", description="URI of the folder for the rasters")
    tiles: tuple[str, ...] = Field((), description="tile ids; none: all")
    format: Literal["cog", "netcdf"] = "cog"
    mapping: str = Field("worldcereal", description="mapping of a data cube's names and units")
    mask_dilation: int | None = Field(
        None,
        ge=0,
        le=32,
        description="pixels around cloud and shadow that are filled, too; none: as the model was trained "
        "(data.gaps.dilation)",
    )
    figures: bool = Field(True, description="a picture of each tile before and after")
    workers: int = Field(0, ge=0, description="Ray actors over tiles; 0: this process")
    resume: bool = Field(
        True,
        description="leave out tiles of a store whose results are there, whole and of the same model, input, options",
    )
    sampling: SamplingConfig = SamplingConfig()

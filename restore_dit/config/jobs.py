"""Settings of the jobs that apply models: reconstruction and evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from restore_dit.config.examples import Positive, SamplerName, Section, TargetConfig

SHIPPED_MODEL = "default"
"""Name of the model that comes with the package; accepted wherever a model directory is."""


class SamplingConfig(Section):
    """How the model is sampled."""

    steps: Positive | None = Field(None, description="diffusion steps; if unset, from the model's configuration")
    sampler: SamplerName | None = Field(None, description="if unset, from the model's configuration")
    seed: int = Field(0, description="seed of the sampling noise")
    samples: int = Field(
        0, ge=0, le=100, description="possible series to draw beside the filled one (NetCDF, or further GeoTIFFs)"
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="number format of the network: fp32 or, faster on GPUs, bf16"
    )
    batch_size: Positive = Field(4, description="windows of a series per forward pass")
    use_gpu: bool = Field(False, description="run the network on GPUs")
    calibrate: bool = Field(
        True,
        description="first hide and fill some clear dates of each series, blend with interpolation where the model "
        "is worse than it, and rescale the predicted uncertainty to the errors found (pixel networks)",
    )
    orbit_offsets: bool = Field(
        True,
        description="where two orbits see a place, estimate from the series how their dates differ, fill it without "
        "that difference and put it back (pixel networks)",
    )
    replace_suspect: bool = Field(
        False,
        description="fill observed pixels, too, that are probably cloud, haze or shadow which the mask missed, and do "
        "not use them to fill others; they are marked in any case",
    )


class EvaluationConfig(Section):
    """Scores on tiles that training never read."""

    model: str = Field(SHIPPED_MODEL, description="URI of a model directory, or the name of the shipped model")
    beside: str | None = Field(
        None,
        description="URI of a second model to score on the same frames, for example to see whether adapting "
        "`default` to a site has helped",
    )
    store: str = Field("", description="URI of the tile store")
    output: str = Field("evaluation", description="URI of the folder for the table and figures")
    protocol: Literal["paper", "missing-frame"] = Field(
        "paper",
        description="paper: gaps from cloud masks of other dates, as published; missing-frame: whole frames are hidden",
    )
    part: Literal["test", "all"] = Field(
        "test",
        description="test: what the model's own split holds out; all: every tile of a store that the model has "
        "never seen",
    )
    tiles: Positive | None = Field(None, description="maximum number of tiles, taken in order; if unset, all")
    targets: TargetConfig | None = Field(
        None, description="which frames are shown and scored; if unset, the rule that the model was trained with"
    )
    hidden_frames: Positive = Field(
        3, description="missing-frame: frames per tile that are hidden one at a time, drawn with a seed"
    )
    figures: int = Field(2, ge=0, description="number of tiles with figures")
    workers: int = Field(0, ge=0, description="Ray actors that process tiles; 0: this process")
    sampling: SamplingConfig = SamplingConfig()


class ReconstructionConfig(Section):
    """Gap filling of cloudy series."""

    model: str = Field(SHIPPED_MODEL, description="URI of a model directory, or the name of the shipped model")
    input: str = Field("", description="URI of a tile store, or of a data cube's folder")
    output: str = Field("", description="URI of the folder for the rasters")
    tiles: tuple[str, ...] = Field((), description="tile ids; if empty, all tiles")
    dates: tuple[str, ...] = Field(
        (), description="ISO dates to fill, acquired or not; if empty, the dates of the acquisitions (see `every`)"
    )
    every: str = Field(
        "",
        description="instead of `dates`: a number of days, or month for the 15th of every month",
    )
    indices: tuple[str, ...] = Field(
        (),
        description="vegetation indices to write as well, ndvi or ndre, with the standard deviation of filled values",
    )
    format: Literal["cog", "netcdf"] = Field(
        "cog", description="cog: Cloud-Optimized GeoTIFFs, one per date; netcdf: one file per tile"
    )
    mapping: str = Field(
        "worldcereal", description="mapping of a data cube's names and units: the name of a shipped one, or a YAML file"
    )
    mask_dilation: int | None = Field(
        None,
        ge=0,
        le=32,
        description="pixels by which cloud and shadow are dilated before filling; if unset, as in the model's "
        "training (data.gaps.dilation)",
    )
    figures: bool = Field(True, description="save a before-and-after picture of each tile")
    workers: int = Field(0, ge=0, description="Ray actors that process tiles; 0: this process")
    resume: bool = Field(
        True,
        description="skip tiles of a store whose results exist, are complete, and come from the same model, input "
        "and options",
    )
    sampling: SamplingConfig = SamplingConfig()

"""What training examples are made of: which frames, pixels, bands and radar, under which gaps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


SamplerName = Literal["dpm_solver_pp", "ddim", "euler"]


class Section(BaseModel):
    """A frozen part of the tree that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)


class RadarConfig(Section):
    """Which radar an example carries, and how."""

    track: str = Field("S1A", description="radar series of the tile that examples use; both: all that it has")
    pairing: Literal["own_dates", "nearest_date"] = Field(
        "own_dates",
        description="own_dates: acquisitions of the window as they are; nearest_date: one for each frame",
    )
    frames: Positive = Field(
        24, description="most radar acquisitions in an example; paper: the subset that pairing picks from"
    )
    dropout: Fraction = Field(0.0, description="share of training examples shown without any radar")
    statistics: Literal["pooled", "mean_of_folds"] = Field(
        "pooled",
        description="normalisation over all training tiles, or the average of their folds' statistics",
    )


class TargetConfig(Section):
    """Which frames may be targets: those that a model is trained on and scored by."""

    by: Literal["masks", "source_list", "both"] = Field(
        "masks",
        description="masks: the limits below; source_list: every frame that the source's list of bad frames leaves; "
        "both: frames that pass both",
    )
    most_hidden: Fraction = Field(
        0.05, description="of a frame's pixels that have data, the largest share that cloud and shadow may cover"
    )
    most_no_data: Fraction = Field(0.05, description="of a frame's pixels, the largest share without data")
    most_haze: float | None = Field(
        None,
        ge=0,
        description="reflectance by which a quarter of a frame's clear pixels may be brighter than the tile's own "
        "usual clear ground; none: any",
    )
    also_by_source: bool = Field(
        False,
        description="frames must keep the limits by the classes that came with the tile, too, whichever masks are in "
        "use, and pixels that those do not call clear are neither shown nor scored",
    )


class MaskErrorConfig(Section):
    """What the gap masks of training examples fail to hide, as real masks do; 0: nothing."""

    missed_thin_cloud: Fraction = Field(0.0, description="share of their pieces of thin cloud, shown under a veil")
    missed_shadow: Fraction = Field(0.0, description="share of their pieces of shadow, shown darkened")

    @property
    def any(self) -> bool:
        """Whether anything is missed."""
        return bool(self.missed_thin_cloud or self.missed_shadow)


class GapConfig(Section):
    """How an example's gaps are made from real cloud masks."""

    source: Literal["other_dates"] = Field("other_dates", description="cloud masks of the same tile, other dates")
    frame_dropout: Fraction = Field(0.0, description="share of frames that training hides as a whole")
    frames_only: Fraction = Field(
        0.0, description="share of training examples whose only gaps are whole frames, one at least"
    )
    runs: Fraction = Field(
        0.0, description="share of training examples whose only gaps are runs of two to six whole frames"
    )
    partial: Fraction = Field(
        0.0,
        description="share of training examples whose gaps all hide a part of their frame, and not all or nothing",
    )
    mask_flips: bool = Field(False, description="mirror and transpose the masks at random")
    dilation: int = Field(
        0,
        ge=0,
        le=32,
        description="pixels around cloud and shadow that count as hidden, too: masks rarely reach a cloud's very rim",
    )
    errors: MaskErrorConfig = MaskErrorConfig()


class SplitConfig(Section):
    """Training, validation and test: disjoint, in tiles or, on a single site, in dates."""

    by: Literal["tiles", "folds", "dates"] = "tiles"
    test_fraction: Fraction = Field(0.2, description="by tiles: seeded share; by dates: the last share of the time")
    test_folds: tuple[int, ...] = Field((5,), description="by folds: folds never read before evaluate")
    validation_fraction: Fraction = Field(0.1, description="seeded share of the training tiles or dates")


class DataConfig(Section):
    """From a tile store to training examples."""

    store: str = Field("", description="URI of the tile store")
    frames: Positive = Field(15, description="optical frames in an example")
    crop: Positive | None = Field(None, description="side of a random square crop in pixels; none: the whole tile")
    examples_per_tile: Positive = Field(1, description="examples cut from each tile in an epoch")
    targets: TargetConfig = TargetConfig()
    frame_choice: Literal["consecutive", "spread"] = Field(
        "consecutive", description="a run of clear frames, or clear frames drawn from a longer stretch"
    )
    date_rounding: Positive = Field(1, description="days that dates are rounded to, half to even")
    date_shift: int = Field(
        0, ge=0, description="training moves all dates of an example by up to so many days, for dates yet to come"
    )
    mask_padding: bool = Field(True, description="keep attention away from the padding of series shorter than frames")
    flips: bool = Field(False, description="mirror and transpose examples at random")
    partly_clear: Fraction = Field(
        0.0, description="share of training examples that show frames in part under cloud, too, and not targets alone"
    )
    least_kept: float = Field(
        1.0, gt=0, le=1, description="least share of the frames at hand that a training example keeps, at random"
    )
    band_dropout: Fraction = Field(
        0.0, description="share of training examples that show a subset of three bands or more"
    )
    coarser: Fraction = Field(0.0, description="share of training examples averaged to pixels of twice the side")
    gain: float = Field(
        0.0, ge=0, description="spread (of the logarithm) of factors by which training brightens and colours examples"
    )
    truly_clear: bool = Field(
        False, description="of simulated tiles that know it, score only pixels which are clear and not only seem so"
    )
    pixels: Positive | None = Field(
        None, description="pixels of a training example that a network of pixels computes, at random; none: all"
    )
    cache_decoded: bool = Field(False, description="keep decoded tiles in Ray's object store between epochs")
    radar: RadarConfig | None = RadarConfig()
    gaps: GapConfig = GapConfig()
    split: SplitConfig = SplitConfig()

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        by = {"not_bad": "source_list", "clear_share": "masks"}.get(str(tree.get("targets")))
        if by is not None:
            raise ValueError(f"targets={tree['targets']} is now data.targets.by={by}")
        if "clear_share" in tree:
            raise ValueError(
                "clear_share is now data.targets.most_hidden and data.targets.most_no_data, the largest shares "
                "that clouds may hide and that may lack data"
            )
        return tree

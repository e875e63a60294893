"""What training examples consist of: which frames, pixels, bands and radar, with which gaps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]

CommitSeconds = Annotated[
    float,
    Field(ge=0, description="minimum seconds between commits of the store; the pause is longer if commits are slow"),
]


SamplerName = Literal["dpm_solver_pp", "ddim", "euler"]


class Section(BaseModel):
    """A frozen part of the configuration tree that rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)


class RadarConfig(Section):
    """Which radar acquisitions an example contains, and how they are paired with optical frames."""

    track: str = Field("S1A", description="the tile's radar track that examples use; both: all its tracks")
    pairing: Literal["own_dates", "nearest_date"] = Field(
        "own_dates",
        description="own_dates: the window's acquisitions at their own dates; nearest_date: one for each optical frame",
    )
    frames: Positive = Field(
        24,
        description="maximum number of radar acquisitions in an example; nearest_date: size of the evenly spaced "
        "subset to pick from",
    )
    dropout: Fraction = Field(0.0, description="share of training examples without any radar")
    statistics: Literal["pooled", "mean_of_folds"] = Field(
        "pooled",
        description="normalisation statistics: pooled over all training tiles, or the mean of each fold's",
    )


class TargetConfig(Section):
    """Which frames may be targets, that is, be trained on and scored."""

    by: Literal["masks", "source_list", "both"] = Field(
        "masks",
        description="masks: frames within the limits below; source_list: frames not in the source's list of bad "
        "frames; both: frames that pass both",
    )
    most_hidden: Fraction = Field(
        0.05, description="maximum share of a frame's pixels with data that cloud and shadow may cover"
    )
    most_no_data: Fraction = Field(0.05, description="maximum share of a frame's pixels without data")
    most_haze: float | None = Field(
        None,
        ge=0,
        description="maximum reflectance by which the brightest quarter of a frame's clear pixels may exceed the "
        "tile's usual clear ground; if unset, no limit",
    )
    also_by_source: bool = Field(
        False,
        description="additionally apply the limits to the classes that came with the tile, whichever masks are in "
        "use, and neither show nor score pixels that those do not classify as clear",
    )


class MaskErrorConfig(Section):
    """Errors of real masks to imitate: what the gap masks of training examples miss; 0: nothing."""

    missed_thin_cloud: Fraction = Field(
        0.0, description="share of the pieces of thin cloud that are missed, shown as a translucent veil"
    )
    missed_shadow: Fraction = Field(0.0, description="share of the pieces of shadow that are missed, shown darkened")

    @property
    def any(self) -> bool:
        """Whether anything is missed."""
        return bool(self.missed_thin_cloud or self.missed_shadow)


class GapConfig(Section):
    """How an example's gaps are made from real cloud masks."""

    source: Literal["other_dates"] = Field("other_dates", description="cloud masks of the same tile on other dates")
    frame_dropout: Fraction = Field(
        0.0, description="share of frames that training hides entirely, in addition to other gaps"
    )
    frames_only: Fraction = Field(0.0, description="share of training examples whose only gap is one whole frame")
    runs: Fraction = Field(
        0.0, description="share of training examples whose only gaps are runs of two to six whole frames"
    )
    partial: Fraction = Field(
        0.0,
        description="share of training examples in which the gap of every frame covers part of it, never all or "
        "nothing",
    )
    mask_flips: bool = Field(False, description="mirror and transpose the masks at random")
    dilation: int = Field(
        0,
        ge=0,
        le=32,
        description="pixels by which cloud and shadow are dilated: masks rarely reach the very edge of a cloud",
    )
    errors: MaskErrorConfig = MaskErrorConfig()


class SplitConfig(Section):
    """Disjoint training, validation and test sets: of tiles or, for a single site, of dates."""

    by: Literal["tiles", "folds", "dates"] = Field(
        "tiles", description="what is split: the tiles, the folds of PASTIS-R, or the dates of a single site"
    )
    test_fraction: Fraction = Field(
        0.2, description="by tiles: seeded share of the tiles; by dates: final share of the acquisitions"
    )
    test_folds: tuple[int, ...] = Field((5,), description="by folds: folds that are never read before evaluate")
    validation_fraction: Fraction = Field(0.1, description="seeded share of the remaining tiles or clear dates")


class DataConfig(Section):
    """How training examples are made from a tile store."""

    store: str = Field("", description="URI of the tile store")
    frames: Positive = Field(15, description="optical frames per example")
    crop: Positive | None = Field(
        None, description="side length of a random square crop in pixels; if unset, the whole tile"
    )
    examples_per_tile: Positive = Field(1, description="examples drawn from each tile per epoch")
    targets: TargetConfig = TargetConfig()
    frame_choice: Literal["consecutive", "spread"] = Field(
        "consecutive", description="consecutive clear frames, or clear frames sampled from a longer stretch"
    )
    date_rounding: Positive = Field(1, description="dates are rounded to multiples of this many days, half to even")
    date_shift: int = Field(
        0,
        ge=0,
        description="maximum number of days by which training shifts all dates of an example, to generalise to "
        "future dates",
    )
    mask_padding: bool = Field(True, description="mask the padding of series shorter than frames in the attention")
    flips: bool = Field(False, description="mirror and transpose examples at random")
    partly_clear: Fraction = Field(
        0.0, description="share of training examples that may also include partly cloudy frames, not only targets"
    )
    least_kept: float = Field(
        1.0,
        gt=0,
        le=1,
        description="minimum share of the chosen frames kept when a training example is thinned at random; 1: no "
        "thinning",
    )
    band_dropout: Fraction = Field(0.0, description="share of training examples with a subset of three or more bands")
    coarser: Fraction = Field(0.0, description="share of training examples averaged to pixels of twice the size")
    gain: float = Field(
        0.0,
        ge=0,
        description="standard deviation (of the logarithm) of the random gain applied to all bands of a training "
        "example; half as much to each band independently",
    )
    truly_clear: bool = Field(
        False, description="simulated tiles with true masks: score only pixels that are truly clear"
    )
    pixels: Positive | None = Field(
        None, description="random pixels per training example that the pixel network computes; if unset, all"
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
                "clear_share is now data.targets.most_hidden and data.targets.most_no_data, the maximum shares of "
                "pixels that may be cloudy and that may lack data"
            )
        return tree

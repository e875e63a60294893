"""How PASTIS-R is brought into a tile store: where it lies, what is taken of it, what counts as damage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from restore_dit.config.examples import Positive, Section


class TransferConfig(Section):
    """Reading over HTTP: how long to wait and how often to try again."""

    timeout: float = Field(60.0, gt=0, description="seconds without an answer or a byte after which a request failed")
    attempts: Positive = Field(8, description="failures in a row, none of which brought a byte, before giving up")
    first_wait: float = Field(0.5, ge=0, description="seconds before the first repetition; each further wait doubles")
    longest_wait: float = Field(60.0, ge=0, description="seconds that a wait does not exceed")
    longest_limit: float = Field(
        7200.0, ge=0, description="seconds in a row for which a server may ask to wait (Retry-After) before giving up"
    )
    patches_a_request: Positive = Field(
        4, description="patches that a task reads together: files side by side in the archive are one request"
    )


class PastisConfig(Section):
    """PASTIS-R, unpacked or as the published ZIP, to a tile store."""

    source: str = Field("", description="unpacked folder or ZIP: a path, s3://… or (ZIP only) http(s)://…")
    output: str = Field("", description="URI of the tile store")
    radar: tuple[Literal["S1A", "S1D"], ...] = Field(
        ("S1A", "S1D"), description="radar tracks to take: ascending, descending; a patch without one is quarantined"
    )
    patches: tuple[str, ...] = Field((), description="patch numbers; none: all")
    folds: tuple[int, ...] = Field((), description="folds; none: all")
    annotations: bool = Field(True, description="keep TARGET and ParcelIDs as layers")
    cloud_masks: str = Field(
        "", description="URI of the folder REAL_MASKS; empty: the one in the source, if there is one"
    )
    bad_frames: str = Field("", description="URI of bad_frames.json; empty: the one in the source, if there is one")
    patch_size: Positive | None = Field(128, description="rows and columns of a patch; none: whatever the files have")
    no_data_at_or_below: int = Field(-2000, description="optical values that mean no data; between it and 0: kept")
    radar_nan: Literal["quarantine", "no_data"] = Field(
        "quarantine", description="a radar value that is no number: quarantine its patch, or take it for no data"
    )
    ratio_tolerance: float | None = Field(
        0.05, gt=0, description="dB by which the third radar channel may differ from VV - VH; none: it is not compared"
    )
    workers: int | None = Field(None, ge=0, description="Ray tasks at a time; none: one a CPU; 0: this process, no Ray")
    allow_bad_tiles: bool = Field(False, description="end with success although patches were quarantined")
    commit_every: Positive = Field(32, description="patches between two commits of the store")
    transfer: TransferConfig = TransferConfig()

    @field_validator("radar", "patches", "folds", mode="before")
    @classmethod
    def _separated(cls, value: object) -> object:
        """`10000,10001` as YAML reads it: one word, or one number."""
        if isinstance(value, str):
            return [word.strip() for word in value.split(",") if word.strip()]
        return [value] if isinstance(value, int) else value

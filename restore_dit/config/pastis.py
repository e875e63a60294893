"""How PASTIS-R is ingested into a tile store: its location, what is read, and what counts as damaged."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from restore_dit.config.examples import Positive, Section


class TransferConfig(Section):
    """Reading over HTTP: timeouts and retries."""

    timeout: float = Field(60.0, gt=0, description="seconds without a response or any data after which a request fails")
    attempts: Positive = Field(8, description="consecutive failures without any data received before giving up")
    first_wait: float = Field(
        0.5, ge=0, description="seconds before the first retry; each further wait is twice as long"
    )
    longest_wait: float = Field(60.0, ge=0, description="maximum seconds between retries")
    longest_limit: float = Field(
        7200.0,
        ge=0,
        description="maximum total seconds that a server may ask to wait in a row (Retry-After) before giving up",
    )
    patches_a_request: Positive = Field(
        4, description="patches that a task reads together: adjacent files in the archive share one request"
    )


class PastisConfig(Section):
    """Ingestion of PASTIS-R, as an unpacked folder or the published ZIP, into a tile store."""

    source: str = Field("", description="unpacked folder or ZIP: a path, s3://… or (ZIP only) http(s)://…")
    output: str = Field("", description="URI of the tile store")
    radar: tuple[Literal["S1A", "S1D"], ...] = Field(
        ("S1A", "S1D"), description="radar tracks to read: ascending, descending; a patch that lacks one is quarantined"
    )
    patches: tuple[str, ...] = Field((), description="patch numbers; if empty, all")
    folds: tuple[int, ...] = Field((), description="folds; if empty, all")
    annotations: bool = Field(True, description="keep TARGET and ParcelIDs as layers")
    cloud_masks: str = Field("", description="URI of the folder REAL_MASKS; if empty, the one in the source, if any")
    bad_frames: str = Field("", description="URI of bad_frames.json; if empty, the one in the source, if any")
    patch_size: Positive | None = Field(128, description="required rows and columns of a patch; if unset, any size")
    no_data_at_or_below: int = Field(
        -2000, description="optical values at or below this mean no data; negative values above it are kept"
    )
    radar_nan: Literal["quarantine", "no_data"] = Field(
        "quarantine", description="non-finite radar values: quarantine the patch, or treat them as no data"
    )
    ratio_tolerance: float | None = Field(
        0.05,
        gt=0,
        description="maximum difference in dB between the third radar channel and VV - VH; if unset, not checked",
    )
    workers: int | None = Field(
        None, ge=0, description="concurrent Ray tasks; 0: this process, without Ray; if unset, one per CPU"
    )
    allow_bad_tiles: bool = Field(False, description="exit with success even if patches were quarantined")
    commit_every: Positive = Field(32, description="patches between commits of the store")
    transfer: TransferConfig = TransferConfig()

"""How PASTIS-R and data cubes are ingested into a tile store: their location, and what is read of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field

from restore_dit.config.cube_mapping import CubeMapping, load_cube_mapping
from restore_dit.config.examples import CommitSeconds, Positive, Section
from restore_dit.config.loading import build, read_yaml
from restore_dit.config.settings import changes_of, merge


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
    commit_every: CommitSeconds = 10.0
    transfer: TransferConfig = TransferConfig()


class CubesConfig(Section):
    """Ingestion of data cubes (NetCDF, Zarr, GeoTIFF) into a tile store, one tile per site."""

    source: str = Field(
        "", description="path or URI of one site's folder, of a folder of such folders, or of a single file"
    )
    output: str = Field("", description="URI of the tile store")
    mapping: str = Field(
        "worldcereal", description="mapping of the files' contents: the name of a shipped one, or a YAML file"
    )
    own_mapping: CubeMapping | None = Field(
        None,
        description="the mapping itself, instead of `mapping`; single keys, such as own_mapping.crs=EPSG:32633, "
        "change the one that `mapping` names",
    )
    workers: int | None = Field(
        None,
        ge=0,
        description="concurrent Ray tasks; 0: this process; if unset, one per CPU, or this process for only a few "
        "sites",
    )
    task_gib: float = Field(1.0, gt=0, description="memory in GiB reserved per task; larger sites need more")
    allow_bad_tiles: bool = Field(False, description="exit with success even if sites were quarantined")
    commit_every: CommitSeconds = 10.0

    @property
    def cube_mapping(self) -> CubeMapping:
        """The mapping that the configuration contains or names."""
        return load_cube_mapping(self.mapping) if self.own_mapping is None else self.own_mapping


def load_cubes(path: str | None, overrides: Iterable[str]) -> CubesConfig:
    """Loads the configuration from a YAML file, if any, and `key=value` overrides.

    Raises:
        UserError: no such file or mapping, bad YAML, unknown key, bad value.
    """
    tree = read_yaml(Path(path)) if path else {}
    changes = changes_of(CubesConfig, overrides)
    if "own_mapping" in changes and not tree.get("own_mapping"):
        named = changes.get("mapping") or tree.get("mapping") or CubesConfig().mapping
        tree["own_mapping"] = load_cube_mapping(named).model_dump(mode="json")
    return build(CubesConfig, merge(tree, changes), path or "command line")

"""How data cubes are ingested into a tile store."""

from __future__ import annotations

from pydantic import Field

from restore_dit.config.cube_mapping import CubeMapping
from restore_dit.config.examples import Positive, Section


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
        description="the mapping itself instead of a name or file: for a job that runs where your files are not "
        "available",
    )
    workers: int | None = Field(
        None,
        ge=0,
        description="concurrent Ray tasks; 0: this process; if unset, one per CPU, or this process for only a few "
        "sites",
    )
    task_gib: float = Field(1.0, gt=0, description="memory in GiB reserved per task; larger sites need more")
    allow_bad_tiles: bool = Field(False, description="exit with success even if sites were quarantined")
    commit_every: Positive = Field(16, description="sites between commits of the store")

"""How data cubes are brought into a tile store."""

from __future__ import annotations

from pydantic import Field

from restore_dit.config.cube_mapping import CubeMapping
from restore_dit.config.examples import Positive, Section


class CubesConfig(Section):
    """Data cubes (NetCDF, Zarr, GeoTIFF) to a tile store, a tile a site."""

    source: str = Field("", description="folder of one site's files, or of such folders, or a single file: path or URI")
    output: str = Field("", description="URI of the tile store")
    mapping: str = Field("worldcereal", description="what the files hold: a shipped mapping's name, or a YAML file")
    own_mapping: CubeMapping | None = Field(
        None, description="the mapping itself, in place of a named one: for a job that runs where your files are not"
    )
    workers: int | None = Field(
        None, ge=0, description="Ray tasks at a time; none: one a CPU, this process for a few sites; 0: this process"
    )
    task_gib: float = Field(1.0, gt=0, description="GiB of memory that a task may need: more for larger sites")
    allow_bad_tiles: bool = Field(False, description="end with success although sites were quarantined")
    commit_every: Positive = Field(16, description="sites between two commits of the store")

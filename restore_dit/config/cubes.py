"""How data cubes are ingested into a tile store."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from restore_dit.config.cube_mapping import CubeMapping, load_cube_mapping
from restore_dit.config.examples import Positive, Section
from restore_dit.config.loading import build, read_yaml
from restore_dit.config.settings import changes_of, merge


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
    commit_every: Positive = Field(16, description="sites between commits of the store")

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

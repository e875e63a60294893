"""Plans which sites of data cubes a tile store lacks, reads them and writes them as tiles, or quarantines bad ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from restore_dit.config.cube_mapping import CubeMapping
from restore_dit.data import storage
from restore_dit.data.cubes.site_series import read_cube
from restore_dit.data.cubes.sites import Site, find_sites
from restore_dit.data.store.add_tiles import Outcome, TilePlan, add_tiles, outcomes, written
from restore_dit.data.store.manifest import Manifest
from restore_dit.data.store.tile_store_writer import TileStoreWriter
from restore_dit.errors import UserError
from restore_dit.series import S2_ALL_BANDS

TASK_MEMORY = 1 << 30
"""Default memory in bytes reserved per task, enough for a site of about 500×500 pixels."""


@dataclass(frozen=True)
class SiteConversion:
    """Reads and writes sites; can be sent to any process."""

    mapping: CubeMapping
    store: storage.Location

    def __call__(self, sites: Sequence[Site]) -> Iterator[Outcome]:
        """Yields the outcome of each site, including failures."""
        for site in sites:
            outcome = written(self.store, site.tile_id, partial(read_cube, site, self.mapping))
            if outcome.reason and site.files and not site.files[0].is_local:
                outcome = replace(outcome, fatal=_failure(site.files[0]))
            yield outcome


def _failure(file: storage.Location) -> str:
    """The error of the storage itself, which is not any site's fault; empty if it responds."""
    try:
        storage.exists(file)
    except UserError as error:
        return str(error)
    return ""


def plan_cubes(
    source: str | Path,
    store_uri: str | Path,
    mapping: CubeMapping,
    *,
    commit_every: int = 16,
    task_memory: int = TASK_MEMORY,
) -> TilePlan:
    """Examines source and store without writing anything.

    Args:
        source: the folder of one site or of several, or a single file.
        store_uri: the store, created if missing.
        mapping: mapping of the files' contents.
        commit_every: sites between commits of the store.
        task_memory: bytes reserved per task.

    Raises:
        UserError: nothing in the folder matches the mapping, or the store cannot be read.
    """
    sites = find_sites(source, mapping)
    writer = TileStoreWriter(store_uri, bands=S2_ALL_BANDS, source=mapping.source)
    bad = {site.tile_id: site.problem for site in sites if site.problem is not None}
    todo = [site for site in sites if site.problem is None and not writer.has(site.tile_id)]
    return TilePlan(
        writer,
        SiteConversion(mapping, writer.location),
        todo,
        task_memory,
        there=len(sites) - len(todo) - len(bad),
        bad=bad,
        commit_every=commit_every,
    )


def ingest_cubes(
    source: str | Path,
    store_uri: str | Path,
    mapping: CubeMapping,
    on_tile: Callable[[Outcome, int, int], object] | None = None,
) -> Manifest:
    """Adds every site of a folder that is not yet complete in a tile store, in this process, and commits the store.

    A site that cannot be read is quarantined, with the reason, without affecting the others. If interrupted, commits
    what has been written.

    Returns:
        the manifest as committed: `tiles`, and `quarantined` with the reasons.

    Raises:
        UserError: nothing in the folder matches the mapping, or the store cannot be written.
    """
    plan = plan_cubes(source, store_uri, mapping)
    return add_tiles(plan, outcomes(plan), on_tile).manifest

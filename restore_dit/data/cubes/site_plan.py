"""Plans which sites of data cubes a tile store lacks, reads them and writes them as tiles, or quarantines bad ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from restore_dit.config.cube_mapping import CubeMapping
from restore_dit.data import storage
from restore_dit.data.cubes.site_series import read_cube
from restore_dit.data.cubes.sites import Site, find_sites
from restore_dit.data.items import Outcome, Plan
from restore_dit.data.store.manifest import TileRecord
from restore_dit.data.store.tile_store_writer import TileStoreWriter
from restore_dit.data.store.tile_writing import make_tile
from restore_dit.series import S2_ALL_BANDS


@dataclass(frozen=True)
class SiteConversion:
    """Reads and writes sites; can be sent to any process."""

    mapping: CubeMapping
    store: storage.Location

    def __call__(self, sites: Sequence[Site]) -> Iterator[Outcome[TileRecord]]:
        """Yields the outcome of each site, including failures.

        Raises:
            UserError: the sites' storage cannot be reached, which is no site's fault, or the store cannot be written.
        """
        for site in sites:
            outcome = make_tile(self.store, site.tile_id, partial(read_cube, site, self.mapping))
            if outcome.reason and site.files and not site.files[0].is_local:
                storage.exists(site.files[0])  # raises if the storage does not respond
            yield outcome


def plan_cubes(source: str | Path, store_uri: str | Path, mapping: CubeMapping) -> Plan[Site, TileRecord]:
    """Examines source and store without writing anything.

    Args:
        source: the folder of one site or of several, or a single file.
        store_uri: the store, created if missing.
        mapping: mapping of the files' contents.

    Raises:
        UserError: nothing in the folder matches the mapping, or the store cannot be read.
    """
    sites = find_sites(source, mapping)
    writer = TileStoreWriter(store_uri, bands=S2_ALL_BANDS, source=mapping.source)
    bad = {site.tile_id: site.problem for site in sites if site.problem is not None}
    todo = [site for site in sites if site.problem is None and not writer.has(site.tile_id)]
    return Plan(
        SiteConversion(mapping, writer.location),
        todo,
        writer.location.uri,
        there=len(sites) - len(todo) - len(bad),
        refused=bad,
        writer=writer,
    )

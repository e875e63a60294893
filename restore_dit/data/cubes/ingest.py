"""A folder of data cubes to a tile store: bad sites are quarantined, the others go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from restore_dit.config.cube_mapping import CubeMapping
from restore_dit.data.cubes.site_series import read_cube
from restore_dit.data.cubes.sites import Site, find_sites
from restore_dit.data.store.manifest import Manifest
from restore_dit.data.store.tile_store_writer import TileStoreWriter
from restore_dit.errors import UserError
from restore_dit.series import S2_ALL_BANDS


def ingest_cubes(
    source: str | Path,
    store_uri: str | Path,
    mapping: CubeMapping,
    on_progress: Callable[[int, int, str], object] | None = None,
) -> Manifest:
    """Add every site of a folder to a tile store, new or half written, and commit it.

    A site that cannot be read is quarantined, with the reason, and the others go on. Interrupted, it commits what it
    has written.

    Args:
        source: the folder of one site, or of several, or a single file.
        store_uri: the store, made where it is missing.
        mapping: what the files hold.
        on_progress: called after each site with (sites done, sites in all, what became of it).

    Returns:
        The manifest as committed: `tiles`, and `quarantined` with the reasons.

    Raises:
        UserError: nothing in the folder matches the mapping, or the store cannot be written.
    """
    sites = find_sites(source, mapping)
    writer = TileStoreWriter(store_uri, bands=S2_ALL_BANDS, source=mapping.source)
    try:
        for done, site in enumerate(sites, start=1):
            outcome = _ingest(site, writer, mapping)
            if on_progress:
                on_progress(done, len(sites), f"{site.tile_id}: {outcome}")
    except KeyboardInterrupt:
        writer.commit()
        raise
    return writer.commit()


def _ingest(site: Site, writer: TileStoreWriter, mapping: CubeMapping) -> str:
    if site.problem is None and writer.has(site.tile_id):
        return "there already"
    try:
        if site.problem is not None:
            raise UserError(site.problem)
        series = read_cube(site, mapping)
    except UserError as error:
        writer.quarantine(site.tile_id, str(error))
        return "quarantined"
    writer.add(series)
    return f"{len(series.optical)} acquisitions of {len(series.optical.bands)} bands"

"""Reads the sites of a family of data cubes as tile series, and plans which of them a tile store lacks.

All products of a site are resampled to one north-up grid: the union of its finest optical files, which may cover
different dates or different parts of the site. Reflectance is interpolated bilinearly (or as the mapping says), classes
and radar use the nearest pixel, which preserves the radar's speckle; sources finer than the grid are averaged, radar in
linear power. Pixels that no file covers have no data.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from odc.geo.geobox import GeoBox, geobox_union_conservative
from odc.geo.geom import unary_union

from restore_dit.config.cube_mapping import CubeMapping, OpticalProduct, Product, RadarProduct
from restore_dit.data import storage
from restore_dit.data.cubes.cube_file import CubeFile, ProductT, open_cube_files
from restore_dit.data.cubes.geotiff_series import is_geotiff
from restore_dit.data.cubes.grid import SAME_PIXEL, Placement, on_lattice, overlaps
from restore_dit.data.cubes.optical import OpticalFile, read_optical
from restore_dit.data.cubes.radar import RadarFile, read_radar
from restore_dit.data.cubes.sites import Site, find_sites, sites_of_files
from restore_dit.data.items import Outcome, Plan
from restore_dit.data.store.manifest import TileRecord
from restore_dit.data.store.tile_store_writer import TileStoreWriter
from restore_dit.data.store.tile_writing import make_tile
from restore_dit.errors import UserError
from restore_dit.series import S2_ALL_BANDS, Georeference, TileSeries

_MIN_COVERED = 0.5
"""Minimum share of a tile that its files must cover together; below it they lie in different places."""


def read_cube(source: str | Path | Sequence[str | Path] | Site, mapping: CubeMapping) -> TileSeries:
    """One site as a tile series.

    Args:
        source: the site's folder, its files, or a `Site` from `find_sites`.
        mapping: mapping of the files' contents.

    Raises:
        UserError: there is no site or more than one, or a file cannot be read or does not match the mapping.
    """
    site = source if isinstance(source, Site) else _only_site(source, mapping)
    with ExitStack() as stack:

        def opened(product: ProductT) -> Iterator[tuple[ProductT, CubeFile]]:
            for files in _files_of(product, site):
                file = stack.enter_context(open_cube_files(files, product, mapping))
                if (held := file.held_of(product)) is not None:
                    yield held, file

        optical_files = [entry for product in mapping.optical for entry in opened(product)]
        if not optical_files:
            patterns = ", ".join(product.files for product in mapping.optical)
            raise UserError(
                f"{site.uri}: no optical file of {site.tile_id} matches {patterns} and has its bands: add it or "
                "correct the mapping"
            )
        radar_files = [entry for product in mapping.radar for entry in opened(product)]
        _require_one_system([file for _, file in (*optical_files, *radar_files)])
        finest = _finest(optical_files)
        grid = _common_grid([file for _, file in finest])
        leading = finest[0]
        right, _, left, _, down, top, *_ = grid.affine
        optical = [OpticalFile(one, file, _placement(one, file, *leading)) for one, file in optical_files]
        radar = [RadarFile(one, file, _placement(one, file, *leading)) for one, file in radar_files]
        _require_overlap(optical, radar, grid)
        remarks: list[str] = []
        acquisitions, clouds, other_clouds = read_optical(optical, grid, mapping, remarks)
        radar_series = read_radar(radar, grid, acquisitions.dates, remarks)
        return TileSeries(
            tile_id=site.tile_id,
            optical=acquisitions,
            clouds=clouds,
            other_clouds=other_clouds,
            radar=radar_series,
            georeference=Georeference(leading[1].crs, (right, 0.0, left, 0.0, down, top)),
            properties={"source": mapping.source, **({"name": site.name} if site.renamed else {})},
            remarks=tuple(remarks),
        )


def _only_site(source: str | Path | Sequence[str | Path], mapping: CubeMapping) -> Site:
    if isinstance(source, str | Path):
        sites = find_sites(source, mapping)
    else:
        files = [storage.locate(file) for file in source]
        sites = sites_of_files(files, _folder_of(files[0]), mapping) if files else []
    if len(sites) != 1:
        raise UserError(f"{source}: contains {len(sites)} sites instead of one: specify the folder of a single site")
    return sites[0]


def _folder_of(file: storage.Location) -> storage.Location:
    parent, slash, _ = file.uri.rpartition("/")
    return storage.locate(parent or slash or ".")


def _files_of(product: OpticalProduct | RadarProduct, site: Site) -> list[list[storage.Location]]:
    """The files to open together, sorted by name: each file on its own, but all GeoTIFFs at once."""
    matching = sorted(
        (file for file in site.files if fnmatch.fnmatchcase(file.name, product.files)), key=lambda file: file.name
    )
    rasters = [file for file in matching if is_geotiff(file)]
    return [[file] for file in matching if not is_geotiff(file)] + ([rasters] if rasters else [])


def _finest(optical: Sequence[tuple[OpticalProduct, CubeFile]]) -> list[tuple[OpticalProduct, CubeFile]]:
    """The files with the smallest pixels; files that only hold masks count only if there are no others."""
    choice = [entry for entry in optical if entry[0].bands] or list(optical)
    least = min(_pixel_area(file) for _, file in choice)
    return [entry for entry in choice if _pixel_area(entry[1]) <= (1 + SAME_PIXEL) * least]


def _pixel_area(file: CubeFile) -> float:
    return abs(file.grid.affine.determinant)


def _common_grid(files: Sequence[CubeFile]) -> GeoBox:
    """The grid that encloses all pixels of the files."""
    first = files[0]
    parts = [first.grid]
    for file in files[1:]:
        part = on_lattice(file.grid, first.grid)
        if part is None:
            right, down = ~first.grid.affine @ (file.grid.affine @ (0, 0))
            raise UserError(
                f"{file.uri}: its pixels are offset by {right:.6g} columns and {down:.6g} rows from those of "
                f"{first.uri}, a fraction of a pixel, or differ in size: resample one of the two to the other's grid"
            )
        parts.append(part)
    grid = geobox_union_conservative(parts)
    covered = unary_union([part.extent for part in parts])
    assert covered is not None  # None only without any parts
    if covered.area < _MIN_COVERED * grid.extent.area:
        height, width = grid.shape
        raise UserError(
            f"{files[0].uri} and {len(files) - 1} more files of its site leave most of the {height}×{width} pixels "
            "that enclose them empty: put each place into a folder of its own"
        )
    return grid


def _placement(product: Product, file: CubeFile, leader: OpticalProduct, leading: CubeFile) -> Placement:
    """Where a file's images lie relative to those of the leading file, whose coordinates define the tile's grid."""
    covers = on_lattice(file.grid, leading.grid) or file.grid
    content = covers.translate_pix(*product.registration)
    registered = leading.grid.translate_pix(*leader.registration)
    return Placement(covers, (leading.grid.affine @ ~registered.affine) * content)


def _require_one_system(files: Sequence[CubeFile]) -> None:
    first = files[0]
    for file in files[1:]:
        if file.grid.crs != first.grid.crs:
            raise UserError(
                f"{file.uri}: its CRS {file.crs[:60]} is not {first.crs[:60]} of {first.uri}: reproject one of them"
            )


def _require_overlap(optical: Sequence[OpticalFile], radar: Sequence[RadarFile], grid: GeoBox) -> None:
    entries: list[OpticalFile | RadarFile] = [*optical, *radar]
    for entry in entries:
        if not overlaps(entry.placement, grid):
            raise UserError(
                f"{entry.file.uri}: does not overlap {optical[0].file.uri}: check that both belong to the same site"
            )


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

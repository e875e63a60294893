"""One site of a family of data cubes as a tile series.

All products of a site come to the grid of its finest optical product, in the north-up order: reflectance bilinearly
(as the mapping says), classes and radar by nearest pixel, so that the radar keeps its speckle; what is finer than the
grid is averaged, radar in linear power. What a product does not cover has no data.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from restore_dit.config.cube_mapping import CubeMapping, OpticalProduct, Product, RadarProduct
from restore_dit.data import storage
from restore_dit.data.cubes.cube_file import CubeFile, ProductT, open_cube_files
from restore_dit.data.cubes.geotiff_series import is_geotiff
from restore_dit.data.cubes.grid import Grid, overlaps
from restore_dit.data.cubes.optical import OpticalFile, read_optical
from restore_dit.data.cubes.radar import RadarFile, read_radar
from restore_dit.data.cubes.sites import Site, find_sites, sites_of_files
from restore_dit.errors import UserError
from restore_dit.series import Georeference, TileSeries


def read_cube(source: str | Path | Sequence[str | Path] | Site, mapping: CubeMapping) -> TileSeries:
    """One site as a tile series.

    Args:
        source: the site's folder, its files, or a `Site` of `find_sites`.
        mapping: what its files hold.

    Raises:
        UserError: no or several sites there, or a file that cannot be read or does not fit the mapping.
    """
    site = source if isinstance(source, Site) else _only_site(source, mapping)
    with ExitStack() as stack:

        def opened(product: ProductT) -> Iterator[tuple[ProductT, CubeFile]]:
            for files in _files_of(product, site):
                file = stack.enter_context(open_cube_files(files, product, mapping))
                if (held := file.held_of(product)) is not None:
                    yield held, file

        optical_files = [entry for product in mapping.optical for entry in opened(product)]
        optical = [OpticalFile(one, file, _true_grid(one, file)) for one, file in optical_files]
        if not optical:
            patterns = ", ".join(product.files for product in mapping.optical)
            raise UserError(
                f"{site.uri}: no optical file of {site.tile_id} matches {patterns}, with any of its bands: add it or mend "
                "the mapping"
            )
        radar_files = [entry for product in mapping.radar for entry in opened(product)]
        radar = [RadarFile(one, file, _true_grid(one, file)) for one, file in radar_files]
        finest = min(optical, key=lambda entry: entry.file.grid.pixel_area)
        _require_one_place(optical, radar, finest)
        grid = finest.grid.north_up()
        acquisitions, clouds, other_clouds = read_optical(optical, grid, mapping)
        return TileSeries(
            tile_id=site.tile_id,
            optical=acquisitions,
            clouds=clouds,
            other_clouds=other_clouds,
            radar=read_radar(radar, grid),
            georeference=Georeference(finest.file.crs, finest.file.grid.north_up().transform),
            properties={"source": mapping.source, **({"name": site.name} if site.renamed else {})},
        )


def _only_site(source: str | Path | Sequence[str | Path], mapping: CubeMapping) -> Site:
    if isinstance(source, str | Path):
        sites = find_sites(source, mapping)
    else:
        files = [storage.locate(file) for file in source]
        sites = sites_of_files(files, _folder_of(files[0]), mapping) if files else []
    if len(sites) != 1:
        raise UserError(f"{source}: holds {len(sites)} sites, expected one: give the folder of a single site")
    return sites[0]


def _folder_of(file: storage.Location) -> storage.Location:
    parent, slash, _ = file.uri.rpartition("/")
    return storage.locate(parent or slash or ".")


def _files_of(product: OpticalProduct | RadarProduct, site: Site) -> list[list[storage.Location]]:
    """What is opened together: each file on its own, GeoTIFFs all at once."""
    matching = [file for file in site.files if fnmatch.fnmatchcase(file.name, product.files)]
    rasters = [file for file in matching if is_geotiff(file)]
    return [[file] for file in matching if not is_geotiff(file)] + ([rasters] if rasters else [])


def _true_grid(product: Product, file: CubeFile) -> Grid:
    """The file's grid, moved to where its content lies."""
    columns, rows = product.registration
    x, y = file.grid.x, file.grid.y
    return Grid(y.offset(-rows * abs(y.spacing)), x.offset(columns * abs(x.spacing)))


def _require_one_place(optical: Sequence[OpticalFile], radar: Sequence[RadarFile], finest: OpticalFile) -> None:
    entries: list[OpticalFile | RadarFile] = [*optical, *radar]
    for entry in entries:
        if entry.file.crs != finest.file.crs:
            raise UserError(
                f"{entry.file.uri}: its CRS {entry.file.crs[:60]} is not {finest.file.crs[:60]} of "
                f"{finest.file.uri}: reproject one of them"
            )
        if not overlaps(entry.grid, finest.grid):
            raise UserError(f"{entry.file.uri}: does not overlap {finest.file.uri}: check that both are of one site")

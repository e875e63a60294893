"""Data cubes (NetCDF files of one site) to tile series, and a folder of sites to a tile store.

All products of a site come to the grid of its finest optical product, in the north-up order: reflectance bilinearly
(as the mapping says), classes and radar by nearest pixel, so that the radar keeps its speckle; what is finer than the
grid is averaged, radar in linear power. What a product does not cover has no data.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restore_dit.config.cube_mapping import CubeMapping, OpticalProduct, Product, RadarProduct
from restore_dit.data import storage
from restore_dit.data.cubes.acquisition_merge import merge_days
from restore_dit.data.cubes.cube_file import CubeFile, open_cube_file
from restore_dit.data.cubes.grid import Grid, overlaps, resample, resample_classes
from restore_dit.data.cubes.sites import Site, find_sites, sites_of_files
from restore_dit.data.store.manifest import Manifest, check_name
from restore_dit.data.store.tile_statistics import CLOUD_CLASSES
from restore_dit.data.store.tile_store_writer import TileStoreWriter
from restore_dit.errors import UserError
from restore_dit.series import (
    CLOUD_NO_DATA,
    DECIBEL_SCALE,
    NO_DATA,
    REFLECTANCE_SCALE,
    S1_BANDS,
    S2_BANDS,
    Acquisitions,
    Georeference,
    TileSeries,
)


@dataclass(frozen=True)
class _Opened:
    """A file with the product it belongs to."""

    product: Product
    file: CubeFile

    @property
    def grid(self) -> Grid:
        """The file's grid, moved to where its content lies."""
        columns, rows = self.product.registration
        x, y = self.file.grid.x, self.file.grid.y
        return Grid(y.offset(-rows * abs(y.spacing)), x.offset(columns * abs(x.spacing)))


def read_cube(source: str | Path | Sequence[str | Path] | Site, mapping: CubeMapping) -> TileSeries:
    """One site as a tile series.

    Args:
        source: the site's folder, its files, or a `Site` of `find_sites`.
        mapping: what its files hold.

    Raises:
        UserError: no or several sites there, or a file that cannot be read or does not fit the mapping.
    """
    if not isinstance(source, Site):
        if isinstance(source, str | Path):
            sites = find_sites(source, mapping)
        else:
            files = [storage.locate(file) for file in source]
            sites = sites_of_files(files, files[0], mapping) if files else []
        if len(sites) != 1:
            raise UserError(f"{source}: holds {len(sites)} sites, expected one: give the folder of a single site")
        source = sites[0]
    with ExitStack() as stack:

        def opened(products: Sequence[Product]) -> list[_Opened]:
            return [
                _Opened(product, stack.enter_context(open_cube_file(file, mapping)))
                for product in products
                for file in source.files
                if fnmatch.fnmatchcase(file.name, product.files)
            ]

        optical, radar = opened(mapping.optical), opened(mapping.radar)
        if not optical:
            patterns = ", ".join(product.files for product in mapping.optical)
            raise UserError(
                f"{source.uri}: no optical file of {source.tile_id} matches {patterns}: add it or mend the mapping"
            )
        finest = min(optical, key=lambda entry: entry.file.grid.pixel_area)
        for entry in (*optical, *radar):
            if entry.file.crs != finest.file.crs:
                raise UserError(
                    f"{entry.file.uri}: its CRS {entry.file.crs[:60]} is not {finest.file.crs[:60]} of "
                    f"{finest.file.uri}: reproject one of them"
                )
            if not overlaps(entry.grid, finest.grid):
                raise UserError(
                    f"{entry.file.uri}: does not overlap {finest.file.uri}: check that both are of one site"
                )
        grid = finest.grid.north_up()
        acquisitions, clouds = _read_optical(optical, grid, mapping)
        tracks = {product.track: [entry for entry in radar if entry.product is product] for product in mapping.radar}
        return TileSeries(
            tile_id=check_name(source.tile_id),
            optical=acquisitions,
            clouds=clouds,
            radar={track: _read_radar(entries, grid) for track, entries in tracks.items() if entries},
            georeference=Georeference(finest.file.crs, finest.file.grid.north_up().transform),
            properties={"source": mapping.source},
        )


def _read_optical(
    optical: Sequence[_Opened], grid: Grid, mapping: CubeMapping
) -> tuple[Acquisitions, NDArray[np.uint8] | None]:
    """All bands of all files on one grid; files join on their times, and what a file lacks has no data."""
    products = [entry.product for entry in optical if isinstance(entry.product, OpticalProduct)]
    bands = tuple(band for band in S2_BANDS if any(band in product.bands for product in products))
    times = np.unique(np.concatenate([entry.file.times for entry in optical]))
    values = np.full((len(times), len(bands), *grid.shape), NO_DATA, np.int16)
    clouds = np.full((len(times), *grid.shape), CLOUD_NO_DATA, np.uint8)
    classified = False
    for product, entry in zip(products, optical, strict=True):
        at = np.searchsorted(times, entry.file.times)
        if len(np.unique(at)) != len(at):
            raise UserError(f"{entry.file.uri}: a time occurs twice in {mapping.dimensions.time}: mend the file")
        for band, variable in product.bands.items():
            reflectance = entry.file.physical(variable, product)
            images = _stored(resample(reflectance, entry.grid, grid, product.resampling), REFLECTANCE_SCALE)
            # Another file of this product may hold the rest of the same acquisition.
            earlier = values[at, bands.index(band)]
            values[at, bands.index(band)] = np.where(images == NO_DATA, earlier, images)
        if product.classification:
            classes = _cloud_classes(entry.file.images(product.classification), mapping)
            classes = resample_classes(classes, entry.grid, grid, CLOUD_NO_DATA)
            clouds[at] = np.where(classes == CLOUD_NO_DATA, clouds[at], classes)
            classified = True
    merged, dates, merged_clouds = merge_days(values, times, clouds if classified else None)
    if merged_clouds is not None:
        merged_clouds[(merged == NO_DATA).all(axis=1)] = CLOUD_NO_DATA
    return Acquisitions(merged, dates, bands), merged_clouds


def _cloud_classes(scene: NDArray[np.integer], mapping: CubeMapping) -> NDArray[np.uint8]:
    clouds = np.full(scene.shape, CLOUD_NO_DATA, np.uint8)
    for value, name in mapping.classes.items():
        clouds[scene == value] = CLOUD_CLASSES[name]
    return clouds


def _read_radar(entries: Sequence[_Opened], grid: Grid) -> Acquisitions:
    parts = []
    for entry in entries:
        product = entry.product
        assert isinstance(product, RadarProduct)
        images = []
        for band in S1_BANDS:
            power: NDArray[np.floating] = entry.file.physical(product.bands[band], product).astype(np.float64)
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                if product.unit == "db":
                    power = 10 ** (power / 10)
                decibel = 10 * np.log10(resample(power, entry.grid, grid, "nearest"))
            images.append(_stored(np.where(np.isfinite(decibel), decibel, np.nan), DECIBEL_SCALE))
        parts.append(np.stack(images, axis=1))
    times = np.concatenate([entry.file.times for entry in entries])
    values, dates, _ = merge_days(np.concatenate(parts), times)
    return Acquisitions(values, dates, S1_BANDS)


def _stored(values: NDArray[np.floating], scale: int) -> NDArray[np.int16]:
    """Stored integers, clipped to what int16 holds beside `NO_DATA`."""
    missing = np.isnan(values)
    integers = np.rint(np.where(missing, 0.0, values) * scale).clip(NO_DATA + 1, np.iinfo(np.int16).max)
    return np.where(missing, NO_DATA, integers.astype(np.int16))


def ingest_cubes(
    source: str | Path, store_uri: str | Path, mapping: CubeMapping, on_progress: Callable[[str], object] | None = None
) -> Manifest:
    """Add every site of a folder to a tile store, new or half written, and commit it.

    A site that cannot be read is quarantined, with the reason, and the others go on.

    Args:
        source: the folder of one site, or of several.
        store_uri: the store, made where it is missing.
        mapping: what the files hold.
        on_progress: called with one line for each site done.

    Returns:
        The manifest as committed: `tiles`, and `quarantined` with the reasons.

    Raises:
        UserError: nothing in the folder matches the mapping, or the store cannot be written.
    """
    sites = find_sites(source, mapping)
    writer = TileStoreWriter(store_uri, bands=S2_BANDS, source=mapping.source)
    for done, site in enumerate(sites, start=1):
        if writer.has(site.tile_id):
            outcome = "there already"
        else:
            try:
                series = read_cube(site, mapping)
            except UserError as error:
                outcome = f"quarantined: {error}"
                writer.quarantine(site.tile_id, str(error))
            else:
                writer.add(series)
                outcome = f"{len(series.optical)} acquisitions of {len(series.optical.bands)} bands"
        if on_progress:
            on_progress(f"{done}/{len(sites)} {site.tile_id}: {outcome}")
    return writer.commit()

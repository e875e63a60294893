"""GeoTIFFs of one site, a file a date or a file a date and band, as one dataset; the date stands in the file's name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import rasterio
import xarray
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.transform import Affine

from restore_dit.config.cube_mapping import Dimensions, OpticalProduct, Product, RadarProduct
from restore_dit.data import storage
from restore_dit.data.crs import crs_name
from restore_dit.data.cubes.grid import same_grid
from restore_dit.errors import UserError

_SUFFIXES = (".tif", ".tiff")


def is_geotiff(location: storage.Location) -> bool:
    """Whether a file's name says so."""
    return location.name.lower().endswith(_SUFFIXES)


@dataclass(frozen=True)
class _Frame:
    """Size and place of a raster: all of a product's must be the same pixels."""

    shape: tuple[int, int]
    transform: tuple[float, ...]
    crs: str | None

    def __str__(self) -> str:
        height, width = self.shape
        x, y = self.transform[2], self.transform[5]
        return f"{height}×{width} pixels from {x:.12g}, {y:.12g} in {str(self.crs)[:40]}"

    def is_that_of(self, other: _Frame) -> bool:
        """Whether both are the same pixels."""
        one, another = (GeoBox(frame.shape, Affine(*frame.transform), None) for frame in (self, other))
        return self.crs == other.crs and same_grid(one, another)


@contextmanager
def open_geotiff_series(
    files: Sequence[storage.Location], product: Product, dimensions: Dimensions
) -> Iterator[xarray.Dataset]:
    """The product's bands as variables [time, y, x] of a dataset in memory, with coordinates and CRS.

    Bands are told apart by the product's pattern `band` in the file names; without one a file has all bands, named by
    their descriptions or else by their numbers. A band that a date lacks is filled with no data.

    Raises:
        UserError: no date or band in a name, a file that cannot be read or lies elsewhere, a band that is missing.
    """
    wanted = _labels(product)
    found: dict[np.datetime64, dict[str, NDArray[np.generic]]] = {}
    first: _Frame | None = None
    fills: dict[str, float] = {}
    for file in files:
        date, name = _date(file, product), _band(file, product)
        if name is not None and name not in wanted:
            continue
        with _open(file) as raster:
            frame = _frame(raster)
            first = first or frame
            if not frame.is_that_of(first):
                raise UserError(
                    f"{file.uri}: its {frame} are not the {first} of {files[0].name}: bring all rasters of "
                    f"{product.files} to one grid"
                )
            for label, number in _numbers(raster, name, wanted, file):
                if label in found.setdefault(date, {}):
                    raise UserError(f"{file.uri}: band {label} of {date} is there already: keep one of the files")
                found[date][label] = raster.read(number)
                if raster.nodata is not None:
                    fills[label] = raster.nodata
    if first is None or not found:
        raise UserError(f"{files[0].uri}: none of {len(files)} files has a band of the mapping: correct `band`")
    yield _dataset(found, wanted, first, fills, dimensions)


def _labels(product: Product) -> list[str]:
    assert isinstance(product, OpticalProduct | RadarProduct)
    labels = list(product.bands.values())
    if isinstance(product, OpticalProduct):
        labels += [product.classification] if product.classification else []
        labels += [product.cloud_probability.variable] if product.cloud_probability else []
    return labels


def _date(file: storage.Location, product: Product) -> np.datetime64:
    if product.date is None:
        raise UserError(
            f"{file.uri}: a GeoTIFF says no date: give the product a pattern `date` in the mapping", status=2
        )
    match = re.search(product.date, file.name)
    if match is None:
        raise UserError(f"{file.uri}: no date in its name matches {product.date}: correct the mapping's `date`")
    try:
        return pd.to_datetime(match.group(1)).to_datetime64().astype("datetime64[s]")
    except ValueError:
        raise UserError(
            f"{file.uri}: {match.group(1)!r} in its name is no date: correct the mapping's `date`"
        ) from None


def _band(file: storage.Location, product: Product) -> str | None:
    if product.band is None:
        return None
    match = re.search(product.band, file.name)
    if match is None:
        raise UserError(f"{file.uri}: no band in its name matches {product.band}: correct the mapping's `band`")
    return match.group(1)


@contextmanager
def _open(file: storage.Location) -> Iterator[DatasetReader]:
    try:
        if file.is_local:
            with rasterio.open(file.path) as raster:
                yield raster
        else:
            with MemoryFile(storage.read_bytes(file)) as memory, memory.open() as raster:
                yield raster
    except RasterioError as error:
        message = " ".join(str(error).split())[:200]
        raise UserError(f"{file.uri}: cannot be read as GeoTIFF ({message}): fetch it again") from None


def _frame(raster: DatasetReader) -> _Frame:
    return _Frame(raster.shape, tuple(raster.transform)[:6], None if raster.crs is None else crs_name(raster.crs))


def _numbers(
    raster: DatasetReader, name: str | None, wanted: Sequence[str], file: storage.Location
) -> list[tuple[str, int]]:
    """(label, band number in the file) of what is wanted of this file."""
    if name is not None:
        return [(name, 1)]
    labels = {description: at for at, description in enumerate(raster.descriptions, start=1) if description}
    labels |= {str(at): at for at in raster.indexes}
    for label in wanted:
        if label not in labels:
            raise UserError(f"{file.uri}: no band {label}; it has {', '.join(labels)}: correct the mapping")
    return [(label, labels[label]) for label in wanted]


def _dataset(
    found: dict[np.datetime64, dict[str, NDArray[np.generic]]],
    wanted: Sequence[str],
    frame: _Frame,
    fills: dict[str, float],
    dimensions: Dimensions,
) -> xarray.Dataset:
    dates = sorted(found)
    a, b, c, d, e, f = frame.transform
    if b or d:
        raise UserError(f"the rasters of {dates[0]} are rotated: warp them to north-up")
    height, width = frame.shape
    variables = {}
    for label in wanted:
        images = [found[date].get(label) for date in dates]
        known = next((image for image in images if image is not None), None)
        if known is None:
            continue  # the reader names what is missing and what there is
        fill = fills.get(label, np.nan)
        kind = known.dtype if label in fills else np.result_type(known.dtype, np.float32)
        absent = np.full(frame.shape, fill, kind)
        stacked = np.stack([absent if image is None else image.astype(kind) for image in images])
        attributes = {"_FillValue": fill} if label in fills else {}
        variables[label] = ((dimensions.time, dimensions.y, dimensions.x), stacked, attributes)
    return xarray.Dataset(
        variables,
        coords={
            dimensions.time: np.array(dates, "datetime64[ns]"),
            dimensions.y: f + e * (np.arange(height) + 0.5),
            dimensions.x: c + a * (np.arange(width) + 0.5),
        },
        attrs={"crs_wkt": frame.crs} if frame.crs else {},
    )

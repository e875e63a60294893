"""GeoTIFFs of one site, one file per date or per date and band, as one dataset; dates come from the file names."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np
import rasterio
import xarray
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.transform import Affine

from restore_dit.config.cube_mapping import Dimensions, OpticalProduct, Product, RadarProduct
from restore_dit.data import storage
from restore_dit.data.crs import crs_name
from restore_dit.data.cubes.grid import same_grid
from restore_dit.data.cubes.times import dates_in_names
from restore_dit.errors import UserError

_SUFFIXES = (".tif", ".tiff")
_BESIDE = (".msk", ".aux.xml")
"""Suffixes of sidecar files with a raster's mask and tags, which GDAL finds next to a raster on disk but not next to
one in memory."""


def is_geotiff(location: storage.Location) -> bool:
    """Whether the file name has a GeoTIFF suffix."""
    return location.name.lower().endswith(_SUFFIXES)


@dataclass(frozen=True)
class _Frame:
    """Size and position of a raster; all rasters of a product must have the same pixels."""

    shape: tuple[int, int]
    transform: tuple[float, ...]
    crs: str | None

    def __str__(self) -> str:
        height, width = self.shape
        x, y = self.transform[2], self.transform[5]
        return f"{height}×{width} pixels from {x:.12g}, {y:.12g} in {str(self.crs)[:40]}"

    def is_that_of(self, other: _Frame) -> bool:
        """Whether both have the same pixels."""
        one, another = (GeoBox(frame.shape, Affine(*frame.transform), None) for frame in (self, other))
        return self.crs == other.crs and same_grid(one, another)


@dataclass(frozen=True)
class _Image:
    """One band of one date [h, w], NaN for no data, with GDAL's scale and offset for packed values."""

    values: NDArray[np.floating]
    scale: float
    offset: float


@contextmanager
def open_geotiff_series(
    files: Sequence[storage.Location], product: Product, dimensions: Dimensions
) -> Iterator[xarray.Dataset]:
    """The product's bands as variables [time, y, x] of a dataset in memory, with coordinates and CRS.

    The product's pattern `band` identifies bands in the file names; without one, a file has all bands, named by their
    descriptions or numbers. Several products of one date, distinguished by the rest of their names, are separate
    images. Images are floating-point numbers, NaN where a raster's no-data value, mask or alpha band hides a pixel, or
    where a date lacks the band. GDAL's scales and offsets become `scale_factor` and `add_offset`, one per date; a tag
    with the processing baseline becomes a variable along time.

    Raises:
        UserError: a name without a date or band, a file that cannot be read or is on another grid, or a missing band.
    """
    wanted = _labels(product)
    found: dict[tuple[np.datetime64, str], dict[str, _Image]] = {}
    baselines: dict[tuple[np.datetime64, str], str] = {}
    tag = product.baseline if isinstance(product, OpticalProduct) else None
    first: _Frame | None = None
    names = [] if files[0].is_local else storage.list_names(files[0].uri.rpartition("/")[0])
    for file, date in zip(files, _dates(files, product), strict=True):
        name, rest = _band(file, product)
        if name is not None and name not in wanted:
            continue
        with _open(file, names) as raster:
            frame = _frame(raster)
            first = first or frame
            if not frame.is_that_of(first):
                raise UserError(
                    f"{file.uri}: its {frame} differ from the {first} of {files[0].name}: resample all rasters of "
                    f"{product.files} to one grid"
                )
            images = found.setdefault((date, rest), {})
            for label, number in _numbers(raster, name, wanted, product, file):
                images[label] = _image(raster, number)
            if tag is not None and tag in raster.tags():
                baselines[date, rest] = raster.tags()[tag]
    if first is None or not found:
        raise UserError(f"{files[0].uri}: none of {len(files)} files has a band of the mapping: correct `band`")
    dataset = _dataset(found, wanted, first, dimensions)
    if tag is not None and baselines:
        dataset[tag] = (dimensions.time, [baselines.get(key, "") for key in sorted(found)])
    yield dataset


def _labels(product: Product) -> list[str]:
    assert isinstance(product, OpticalProduct | RadarProduct)
    labels = list(product.bands.values())
    if isinstance(product, OpticalProduct):
        labels += [product.classification] if product.classification else []
        labels += [product.cloud_probability.variable] if product.cloud_probability else []
    return labels


def _dates(files: Sequence[storage.Location], product: Product) -> NDArray[np.datetime64]:
    texts = []
    for file in files:
        if product.date is None:
            raise UserError(
                f"{file.uri}: GeoTIFFs need dates in their names: add a `date` pattern to the product",
                status=2,
            )
        match = re.search(product.date, file.name)
        if match is None or match.group(1) is None:
            raise UserError(f"{file.uri}: no date in its name matches {product.date}: correct the mapping's `date`")
        texts.append(match.group(1))
    return dates_in_names(texts, product.date_format, [file.uri for file in files])


def _band(file: storage.Location, product: Product) -> tuple[str | None, str]:
    """The band in a file's name, and the rest of the name, which all bands of an image share."""
    if product.band is None:
        return None, file.name
    match = re.search(product.band, file.name)
    if match is None or match.group(1) is None:
        raise UserError(f"{file.uri}: no band in its name matches {product.band}: correct the mapping's `band`")
    return match.group(1), file.name[: match.start(1)] + file.name[match.end(1) :]


@contextmanager
def _open(file: storage.Location, names: Sequence[str]) -> Iterator[DatasetReader]:
    """Opens a raster; `names` are the file names in its folder on object storage."""
    try:
        if file.is_local:
            with rasterio.open(file.path) as raster:
                yield raster
            return
        with ExitStack() as stack:
            folder = uuid.uuid4().hex
            for suffix in ("", *(suffix for suffix in _BESIDE if file.name + suffix in names)):
                part = replace(file, uri=file.uri + suffix, path=file.path + suffix)
                stack.enter_context(MemoryFile(storage.read_bytes(part), dirname=folder, filename=part.name))
            yield stack.enter_context(rasterio.open(f"/vsimem/{folder}/{file.name}"))
    except RasterioError as error:
        message = " ".join(str(error).split())[:200]
        raise UserError(f"{file.uri}: cannot be read as GeoTIFF ({message}): download it again") from None


def _frame(raster: DatasetReader) -> _Frame:
    return _Frame(raster.shape, tuple(raster.transform)[:6], None if raster.crs is None else crs_name(raster.crs))


def _numbers(
    raster: DatasetReader, name: str | None, wanted: Sequence[str], product: Product, file: storage.Location
) -> list[tuple[str, int]]:
    """(label, band number in the file) of the wanted bands that this file has."""
    if name is not None:
        return [(name, 1)]
    labels = {description: at for at, description in enumerate(raster.descriptions, start=1) if description}
    labels |= {str(at): at for at in raster.indexes}
    there = [label for label in wanted if label in labels]
    # Radar is sometimes acquired in a single polarisation; the radar reader skips such files.
    if len(there) < len(wanted) and not (there and isinstance(product, RadarProduct)):
        lacking = next(label for label in wanted if label not in labels)
        raise UserError(f"{file.uri}: no band {lacking}; it has {', '.join(labels)}: correct the mapping")
    return [(label, labels[label]) for label in there]


def read_masked(raster: DatasetReader, number: int) -> np.ma.MaskedArray:
    """A band [h, w] as stored, masked where the raster's no-data value, mask or alpha band hides it."""
    stored = raster.read(number, masked=True)
    # GDAL itself applies an alpha band only in rasters of two or four bands.
    for alpha in (at for at, meaning in enumerate(raster.colorinterp, start=1) if meaning == ColorInterp.alpha):
        if alpha != number:
            stored = np.ma.masked_where(raster.read(alpha) == 0, stored)
    return stored


def _image(raster: DatasetReader, number: int) -> _Image:
    stored = read_masked(raster, number)
    # The smallest type that can represent the numbers and NaN.
    values = np.ma.filled(stored.astype(np.result_type(stored.dtype, np.float32)), np.nan)
    return _Image(values, raster.scales[number - 1], raster.offsets[number - 1])


def _dataset(
    found: dict[tuple[np.datetime64, str], dict[str, _Image]],
    wanted: Sequence[str],
    frame: _Frame,
    dimensions: Dimensions,
) -> xarray.Dataset:
    keys = sorted(found)
    a, b, c, d, e, f = frame.transform
    if b or d:
        raise UserError(f"the rasters of {keys[0][0]} are rotated: warp them to a north-up grid")
    height, width = frame.shape
    absent = _Image(np.full(frame.shape, np.nan, np.float32), 1.0, 0.0)
    variables = {}
    for label in wanted:
        images = [found[key].get(label, absent) for key in keys]
        if all(image is absent for image in images):
            continue  # the reader reports which labels are missing and which exist
        attributes = {
            "scale_factor": np.array([image.scale for image in images]),
            "add_offset": np.array([image.offset for image in images]),
        }
        stacked = np.stack([image.values for image in images])
        variables[label] = ((dimensions.time, dimensions.y, dimensions.x), stacked, attributes)
    return xarray.Dataset(
        variables,
        coords={
            dimensions.time: np.array([date for date, _ in keys], "datetime64[ns]"),
            dimensions.y: f + e * (np.arange(height) + 0.5),
            dimensions.x: c + a * (np.arange(width) + 0.5),
        },
        attrs={"crs_wkt": frame.crs} if frame.crs else {},
    )

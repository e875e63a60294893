"""Writes a reconstructed series as Cloud-Optimized GeoTIFFs, one per date, or as one NetCDF 4 file.

Both store int16 reflectance × 10000 with its scale, which pixels were observed and which reconstructed, what the latter
rest on, which of the former are suspect, and the standard deviation of reconstructed values where the network
estimates it. With GeoTIFFs, the masks
are the bands of a second file `<tile>_<date>_gap.tif` rather than GDAL's internal mask, which means "no data": readers
would hide exactly the reconstructed pixels. The standard deviation is a third file `<tile>_<date>_uncertainty.tif`. In
NetCDF they are the variables `gap_mask`, `never_observed`, `provenance`, `suspect` and, for each band,
`B04_uncertainty`. Every file is written atomically.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from rasterio.transform import Affine

from restore_dit.data.crs import coordinate_system
from restore_dit.data.exchange import netcdf
from restore_dit.data.exchange.series_dataset import never_observed_count, without_radar
from restore_dit.data.storage import Place, locate, write_bytes_atomically
from restore_dit.data.stored_values import index_to_stored
from restore_dit.errors import UserError
from restore_dit.series import (
    INDEX_SCALE,
    NEVER_OBSERVED,
    NO_DATA,
    PROVENANCE,
    REFLECTANCE_SCALE,
    SAMPLES,
    SUSPECT,
    UNCERTAINTY,
    Georeference,
    Provenance,
    TileSeries,
)

_MIN_BLOCK, _LARGEST_BLOCK = 128, 512
_GAP_MEANING = {
    "description": "gap_mask 1: reconstructed, 0: observed; never_observed 1: observed on no date; provenance "
    + ", ".join(f"{one.value}: {one.name.lower()}" for one in Provenance)
    + "; suspect 1: counts as observed, but is probably cloud, haze or shadow that the mask missed"
}


def geotiffs(
    series: TileSeries,
    gap_mask: NDArray[np.bool_],
    attributes: Mapping[str, str] | None = None,
    indices: Mapping[str, NDArray[np.floating]] | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Yields name and content of `<tile>_<date>_gap.tif` and `<tile>_<date>.tif` for every date of the series, plus
    `<tile>_<date>_ndvi.tif` for each index, `<tile>_<date>_uncertainty.tif` if the series has that layer and
    `<tile>_<date>_sample1.tif` and so on for its possible series. A series without bands yields only gap masks and
    indices.

    series: its layers `NEVER_OBSERVED`, `PROVENANCE` and `SUSPECT`, if it has them, become further bands of each gap
        mask.
    gap_mask: [T, H, W], true where a pixel was reconstructed.
    attributes: provenance (model, version, seed), stored as tags in every file.
    indices: spectral indices [T, H, W] between -1 and 1, by name; `NDVI_uncertainty` becomes the second band of the
        file of `NDVI`.

    Raises:
        UserError: the tile id cannot be a file name.
    """
    tile_id = _file_name(series.tile_id)
    optical, indices, spread = series.optical, indices or {}, f"_{UNCERTAINTY}"
    attributes = dict(attributes or {}) | never_observed_count(series)
    marks = {name: series.layers[name] for name in (NEVER_OBSERVED, PROVENANCE, SUSPECT) if name in series.layers}
    for index, date in enumerate(optical.dates.astype("datetime64[D]").astype(str)):
        tags = {**attributes, "DATE": str(date), "TILE": series.tile_id}
        of_date = [mark if name == NEVER_OBSERVED else mark[index] for name, mark in marks.items()]
        gaps = np.stack([gap_mask[index], *of_date]).astype(np.uint8)
        # The image comes last, so that an image never lacks its gap mask.
        yield f"{tile_id}_{date}_gap.tif", _cog(gaps, series.georeference, tags | _GAP_MEANING, ("gap_mask", *marks))
        for name in indices:
            if name.endswith(spread):
                continue
            names = [each for each in (name, name + spread) if each in indices]
            stored = np.stack([index_to_stored(indices[each][index]) for each in names])
            content = _cog(stored, series.georeference, tags, tuple(names), scale=INDEX_SCALE)
            yield f"{tile_id}_{date}_{name.lower()}.tif", content
        if UNCERTAINTY in series.layers:
            deviation = series.layers[UNCERTAINTY][index]
            content = _cog(deviation, series.georeference, tags, optical.bands, scale=REFLECTANCE_SCALE, mixed=False)
            yield f"{tile_id}_{date}_{UNCERTAINTY}.tif", content
        for number, member in enumerate(series.layers[SAMPLES][index] if SAMPLES in series.layers else (), start=1):
            content = _cog(member, series.georeference, tags, optical.bands, scale=REFLECTANCE_SCALE)
            yield f"{tile_id}_{date}_sample{number}.tif", content
        if optical.bands:
            image = _cog(optical.values[index], series.georeference, tags, optical.bands, scale=REFLECTANCE_SCALE)
            yield f"{tile_id}_{date}.tif", image


def write_geotiffs(
    folder: Place,
    series: TileSeries,
    gap_mask: NDArray[np.bool_],
    attributes: Mapping[str, str] | None = None,
    indices: Mapping[str, NDArray[np.floating]] | None = None,
) -> list[str]:
    """Writes the files of `geotiffs` to a folder at any URI and returns their URIs.

    Raises:
        UserError: a file cannot be written, or the tile id cannot be a file name.
    """
    uris = []
    for name, content in geotiffs(series, gap_mask, attributes, indices):
        location = locate(folder).join(name)
        write_bytes_atomically(location, content)
        uris.append(location.uri)
    return uris


def write_netcdf(
    uri: Place,
    series: TileSeries,
    gap_mask: NDArray[np.bool_],
    attributes: Mapping[str, str] | None = None,
    indices: Mapping[str, NDArray[np.floating]] | None = None,
) -> None:
    """Writes the series as one NetCDF 4 file with dimensions time, y, x, one variable per band, and `gap_mask`.

    Parameters as in `write_geotiffs`.

    Raises:
        UserError: the file cannot be written, or the grid is rotated relative to its CRS, which one-dimensional
            coordinates cannot represent.
    """
    content = netcdf.encode(without_radar(series), gap_mask, attributes, indices)
    write_bytes_atomically(locate(uri), content)


def _file_name(tile_id: str) -> str:
    """The tile id, checked because it becomes part of a path."""
    if not re.fullmatch(r"[\w][\w.-]*", tile_id):
        raise UserError(
            f"tile {tile_id!r}: not a valid file name; use only letters, digits, '.', '_' and '-' in tile ids"
        )
    return tile_id


def _cog(
    bands: NDArray,
    georeference: Georeference | None,
    tags: Mapping[str, str],
    names: tuple[str, ...],
    *,
    scale: int | None = None,
    mixed: bool = True,
) -> bytes:
    """A Cloud-Optimized GeoTIFF of [C, H, W]: int16 in steps of 1/`scale`, or classes if there is no scale. Overviews
    of classes are nearest neighbours, others averages unless `mixed` is false, as for the uncertainty, which is 0 where
    a pixel is observed."""
    profile = {
        "driver": "COG",
        "dtype": bands.dtype.name,
        "count": bands.shape[0],
        "height": bands.shape[1],
        "width": bands.shape[2],
        "compress": "DEFLATE",  # every reader supports it; ZSTD is only 5 % smaller
        "predictor": "STANDARD",
        "blocksize": _block_side(*bands.shape[1:]),
        "bigtiff": "IF_SAFER",
        "overview_resampling": "AVERAGE" if mixed and scale is not None else "NEAREST",
    }
    if scale is not None:
        profile["nodata"] = int(NO_DATA)
    if georeference is not None:
        profile |= {"crs": coordinate_system(georeference), "transform": Affine(*georeference.transform)}
    with MemoryFile() as file:
        with file.open(**profile) as dataset:
            dataset.write(bands)
            dataset.descriptions = names
            dataset.update_tags(**tags)
            if scale is not None:
                dataset.scales = [1 / scale] * len(names)
        return file.read()


def _block_side(height: int, width: int) -> int:
    """Side length of a file's blocks; smaller for small images, because the padding of a block is compressed too."""
    smallest = 1 << (max(height, width) - 1).bit_length()
    return min(max(smallest, _MIN_BLOCK), _LARGEST_BLOCK)

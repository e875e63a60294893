"""Writing one reconstructed series: Cloud-optimised GeoTIFFs, one a date, or one NetCDF 4 file.

Both hold int16 reflectance × 10000 with its scale beside it, and say of every pixel whether it was observed or
reconstructed, whether it is observed on any date at all, and how sure a reconstructed value is where the network says.
In GeoTIFFs the former are the bands of a second file `<tile>_<date>_gap.tif`, not GDAL's internal mask: a mask there
means "no data", and every reader would hide exactly the pixels that were reconstructed; the latter is a third file
`<tile>_<date>_uncertainty.tif`. In NetCDF they are the variables `gap_mask`, `never_observed` and, for each band,
`B04_uncertainty`. Every file is written as a whole or not at all.
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
from restore_dit.data.exchange.stored_values import index_to_stored
from restore_dit.data.storage import Place, locate, write_bytes_atomically
from restore_dit.errors import UserError
from restore_dit.series import (
    INDEX_SCALE,
    NEVER_OBSERVED,
    NO_DATA,
    REFLECTANCE_SCALE,
    UNCERTAINTY,
    Georeference,
    TileSeries,
)

_LEAST_BLOCK, _LARGEST_BLOCK = 128, 512
_GAP_MEANING = {"description": "gap_mask 1: reconstructed, 0: observed; never_observed 1: observed on no date"}


def geotiffs(
    series: TileSeries,
    gap_mask: NDArray[np.bool_],
    attributes: Mapping[str, str] | None = None,
    indices: Mapping[str, NDArray[np.floating]] | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Name and content of `<tile>_<date>_gap.tif` and `<tile>_<date>.tif` for every date of the series, of
    `<tile>_<date>_ndvi.tif` for each index and of `<tile>_<date>_uncertainty.tif` where there is that layer; a series
    without bands has the gap masks and indices only.

    series: its layer `NEVER_OBSERVED`, if it has one, is the second band of each gap mask. gap_mask: [T, H, W], true
    where a pixel was reconstructed. attributes: what made the series (model, version, seed), kept as tags of every
    file. indices: what is computed from the bands, between -1 and 1 [T, H, W], by name.

    Raises:
        UserError: a tile id cannot name a file.
    """
    tile_id = _file_name(series.tile_id)
    optical = series.optical
    attributes = dict(attributes or {}) | netcdf.never_observed_count(series)
    marks = [series.layers[NEVER_OBSERVED]] if NEVER_OBSERVED in series.layers else []
    names = ("gap_mask", NEVER_OBSERVED)[: 1 + len(marks)]
    for index, date in enumerate(optical.dates.astype("datetime64[D]").astype(str)):
        tags = {**attributes, "DATE": str(date), "TILE": series.tile_id}
        gaps = np.stack([gap_mask[index], *marks]).astype(np.uint8)
        # The image last: whoever finds it finds its gap mask too.
        yield f"{tile_id}_{date}_gap.tif", _cog(gaps, series.georeference, tags | _GAP_MEANING, names)
        for name, values in (indices or {}).items():
            stored = index_to_stored(values[index, None])
            content = _cog(stored, series.georeference, tags, (name,), scale=INDEX_SCALE)
            yield f"{tile_id}_{date}_{name.lower()}.tif", content
        if UNCERTAINTY in series.layers:
            deviation = series.layers[UNCERTAINTY][index]
            content = _cog(deviation, series.georeference, tags, optical.bands, scale=REFLECTANCE_SCALE, mixed=False)
            yield f"{tile_id}_{date}_{UNCERTAINTY}.tif", content
        if optical.bands:
            image = _cog(optical.values[index], series.georeference, tags, optical.bands, scale=REFLECTANCE_SCALE)
            yield f"{tile_id}_{date}.tif", image


def write_geotiffs(
    folder: Place, series: TileSeries, gap_mask: NDArray[np.bool_], attributes: Mapping[str, str] | None = None
) -> list[str]:
    """Writes the files of `geotiffs` into a folder at any URI, and returns their URIs.

    Raises:
        UserError: a file cannot be written, or a tile id cannot name one.
    """
    uris = []
    for name, content in geotiffs(series, gap_mask, attributes):
        location = locate(folder).join(name)
        write_bytes_atomically(location, content)
        uris.append(location.uri)
    return uris


def write_netcdf(
    uri: Place, series: TileSeries, gap_mask: NDArray[np.bool_], attributes: Mapping[str, str] | None = None
) -> None:
    """Writes the series as one NetCDF 4 file: dimensions time, y, x; a variable for each band, and `gap_mask`.

    Parameters as `write_geotiffs`.

    Raises:
        UserError: the file cannot be written, or the grid is rotated against its coordinate system, which one
            coordinate for each row and column cannot say.
    """
    content = netcdf.encode(netcdf.without_radar(series), gap_mask, attributes)
    write_bytes_atomically(locate(uri), content)


def _file_name(tile_id: str) -> str:
    """The tile id, which becomes part of a path."""
    if not re.fullmatch(r"[\w][\w.-]*", tile_id):
        raise UserError(f"tile {tile_id!r}: cannot name a file; use letters, digits, '.', '_' and '-' in tile ids")
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
    """A Cloud-optimised GeoTIFF of [C, H, W]: int16 in steps of 1/`scale`, or classes. Overviews of the former are
    averages unless `mixed` is false: the uncertainty is 0 where a pixel is observed."""
    profile = {
        "driver": "COG",
        "dtype": bands.dtype.name,
        "count": bands.shape[0],
        "height": bands.shape[1],
        "width": bands.shape[2],
        "compress": "DEFLATE",  # every reader has it; ZSTD is 5 % smaller
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
    """Of the blocks of a file. Those of a small image are no larger than it: what lies outside is compressed too."""
    smallest = 1 << (max(height, width) - 1).bit_length()
    return min(max(smallest, _LEAST_BLOCK), _LARGEST_BLOCK)

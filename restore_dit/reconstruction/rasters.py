"""Writing one reconstructed series: Cloud-optimised GeoTIFFs, one a date, or one NetCDF 4 file.

Both hold int16 reflectance × 10000 with its scale beside it, and say of every pixel whether it was observed or
reconstructed. In GeoTIFFs that is a second file `<tile>_<date>_gap.tif`, not GDAL's internal mask: a mask there means
"no data", and every reader would hide exactly the pixels that were reconstructed. In NetCDF it is the variable
`gap_mask`. Every file is written as a whole or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import xarray
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.io import MemoryFile
from rasterio.transform import Affine

from restore_dit.data.storage import Place, locate, write_bytes_atomically
from restore_dit.errors import UserError
from restore_dit.series import NO_DATA, REFLECTANCE_SCALE, Georeference, TileSeries

_COG_BLOCK = 512
_CHUNK = 256
"""Side of a NetCDF chunk in pixels; a chunk holds one date of one band."""

_GAP_MEANING = {"description": "1: reconstructed, 0: observed"}


def write_geotiffs(
    folder: Place, series: TileSeries, gap_mask: NDArray[np.bool_], attributes: Mapping[str, str] | None = None
) -> list[str]:
    """Writes `<tile>_<date>.tif` and `<tile>_<date>_gap.tif` for every date of the series, and returns their URIs.

    folder: any URI. gap_mask: [T, H, W], true where a pixel was reconstructed. attributes: what made the series
    (model, version, seed), kept as tags of every file.

    Raises:
        UserError: a file cannot be written, or a tile id cannot name one.
    """
    tile_id = _file_name(series.tile_id)
    optical = series.optical
    uris = []
    for index, date in enumerate(optical.dates.astype("datetime64[D]").astype(str)):
        tags = {**(attributes or {}), "DATE": str(date), "TILE": series.tile_id}
        image = _cog(optical.values[index], series.georeference, tags, optical.bands, scaled=True)
        gaps = _cog(gap_mask[index, None].astype(np.uint8), series.georeference, tags | _GAP_MEANING, ("gap_mask",))
        # The image last: whoever finds it finds its gap mask too.
        for name, data in ((f"{tile_id}_{date}_gap.tif", gaps), (f"{tile_id}_{date}.tif", image)):
            location = locate(folder).join(name)
            write_bytes_atomically(location, data)
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
    cube = _cube(series, gap_mask, attributes or {})
    height, width = series.size
    compression = {
        "zlib": True,
        "complevel": 4,
        "shuffle": True,
        "chunksizes": (1, min(height, _CHUNK), min(width, _CHUNK)),
    }
    encoding: dict[str, dict] = dict.fromkeys((*series.optical.bands, "gap_mask"), compression)
    encoding["time"] = {"units": "days since 1970-01-01", "calendar": "standard", "dtype": "int32"}
    data = cube.to_netcdf(None, engine="h5netcdf", encoding=encoding)
    write_bytes_atomically(locate(uri), bytes(data))


def _file_name(tile_id: str) -> str:
    """The tile id, which becomes part of a path."""
    if not re.fullmatch(r"[\w][\w.-]*", tile_id):
        raise UserError(f"tile {tile_id!r}: cannot name a file; use letters, digits, '.', '_' and '-' in tile ids")
    return tile_id


def _crs(georeference: Georeference) -> CRS:
    try:
        return CRS.from_user_input(georeference.crs)
    except ValueError as error:  # rasterio's CRSError is one
        raise UserError(
            f"unknown coordinate system {georeference.crs!r}: give an authority code such as EPSG:32631, or WKT"
        ) from error


def _cog(
    bands: NDArray,
    georeference: Georeference | None,
    tags: Mapping[str, str],
    names: tuple[str, ...],
    *,
    scaled: bool = False,
) -> bytes:
    """A Cloud-optimised GeoTIFF of [C, H, W]: int16 reflectance where `scaled`, else classes."""
    profile = {
        "driver": "COG",
        "dtype": bands.dtype.name,
        "count": bands.shape[0],
        "height": bands.shape[1],
        "width": bands.shape[2],
        "compress": "DEFLATE",  # every reader has it; ZSTD is 5 % smaller
        "predictor": "STANDARD",
        "blocksize": _COG_BLOCK,
        "bigtiff": "IF_SAFER",
        "overview_resampling": "AVERAGE" if scaled else "NEAREST",
    }
    if scaled:
        profile["nodata"] = int(NO_DATA)
    if georeference is not None:
        profile |= {"crs": _crs(georeference), "transform": Affine(*georeference.transform)}
    with MemoryFile() as file:
        with file.open(**profile) as dataset:
            dataset.write(bands)
            dataset.descriptions = names
            dataset.update_tags(**tags)
            if scaled:
                dataset.scales = [1 / REFLECTANCE_SCALE] * len(names)
        return file.read()


def _cube(series: TileSeries, gap_mask: NDArray[np.bool_], attributes: Mapping[str, str]) -> xarray.Dataset:
    """The series under the CF conventions. The integers stay as they are: scale and fill value are plain attributes,
    so that nothing is rounded on its way through floating point."""
    optical = series.optical
    dimensions = ("time", "y", "x")
    reference = {"grid_mapping": "spatial_ref"} if series.georeference else {}
    packed = {"scale_factor": 1 / REFLECTANCE_SCALE, "_FillValue": NO_DATA, "units": "1"}
    variables: dict[str, tuple] = {
        band: (dimensions, optical.values[:, index], {**packed, **reference, "long_name": f"reflectance {band}"})
        for index, band in enumerate(optical.bands)
    }
    flags = {"flag_values": np.array([0, 1], np.uint8), "flag_meanings": "observed reconstructed"}
    variables["gap_mask"] = (dimensions, gap_mask.astype(np.uint8), {**flags, **reference})
    coordinates: dict[str, tuple] = {
        "time": ("time", optical.dates.astype("datetime64[s]"), {"standard_name": "time", "axis": "T"})
    }
    if series.georeference is not None:
        variables["spatial_ref"] = ((), np.int32(0), _grid_mapping(series.georeference))
        coordinates |= _pixel_centres(series.georeference, *series.size)
    title = {"Conventions": "CF-1.10", "tile": series.tile_id}
    return xarray.Dataset(variables, coordinates, {**attributes, **title})


def _grid_mapping(georeference: Georeference) -> dict[str, str]:
    """Attributes of the grid mapping variable: `crs_wkt` is CF's, `spatial_ref` and `GeoTransform` are GDAL's."""
    crs = _crs(georeference)
    a, b, c, d, e, f = georeference.transform
    return {
        "crs_wkt": crs.to_wkt(version="WKT2_2019"),
        "spatial_ref": crs.to_wkt(),
        "GeoTransform": " ".join(repr(float(value)) for value in (c, a, b, f, d, e)),
    }


def _pixel_centres(georeference: Georeference, height: int, width: int) -> dict[str, tuple]:
    """The coordinates y [H] and x [W] of pixel centres, in units of the coordinate system."""
    a, b, c, d, e, f = georeference.transform
    if b or d:
        raise UserError("NetCDF cannot hold a grid rotated against its coordinate system: write GeoTIFFs instead")
    geographic = _crs(georeference).is_geographic
    names = ("latitude", "longitude") if geographic else ("projection_y_coordinate", "projection_x_coordinate")
    units = ("degrees_north", "degrees_east") if geographic else ("m", "m")
    return {
        "y": ("y", f + e * (np.arange(height) + 0.5), {"standard_name": names[0], "units": units[0], "axis": "Y"}),
        "x": ("x", c + a * (np.arange(width) + 0.5), {"standard_name": names[1], "units": units[1], "axis": "X"}),
    }

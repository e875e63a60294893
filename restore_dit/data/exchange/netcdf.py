"""One series as one NetCDF 4 file in the layout of `series_dataset`: the format that `reconstruct` writes and the
endpoint accepts."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import netCDF4
import numpy as np
import xarray
from numpy.typing import NDArray

from restore_dit.data.cubes.datasets import readable, require_self_contained
from restore_dit.data.exchange.limits import SeriesLimits
from restore_dit.data.exchange.series_dataset import (
    CLOUD_CLASSES,
    DIMENSIONS,
    GAP_MASK,
    SAMPLE_DIMENSIONS,
    dataset_of,
    series_of,
    tracks_in,
)
from restore_dit.errors import UserError
from restore_dit.series import (
    NEVER_OBSERVED,
    PROVENANCE,
    S1_BANDS,
    S2_ALL_BANDS,
    SAMPLES,
    SUSPECT,
    UNCERTAINTY,
    TileSeries,
)

_CHUNK = 256
"""Side length of a chunk in pixels; a chunk covers one date of one band."""

_library = threading.Lock()
"""The NetCDF library is not thread-safe."""


def encode(
    series: TileSeries,
    gap_mask: NDArray[np.bool_] | None = None,
    attributes: Mapping[str, str] | None = None,
    indices: Mapping[str, NDArray[np.floating]] | None = None,
) -> bytes:
    """The file's content.

    The arguments are those of `dataset_of`.

    Raises:
        UserError: the grid is rotated relative to its CRS.
    """
    cube = dataset_of(series, gap_mask, attributes or {}, indices or {})
    with _library:
        file = netCDF4.Dataset("series", mode="w", memory=1)
        _write(file, cube)
        return bytes(file.close())


def _write(file: netCDF4.Dataset, cube: xarray.Dataset) -> None:
    compressed: dict[str, Any] = {"compression": "zlib", "complevel": 4, "shuffle": True}
    chunk = (min(cube.sizes["y"], _CHUNK), min(cube.sizes["x"], _CHUNK))
    file.setncatts(cube.attrs)
    variables = []
    for dimension, size in cube.sizes.items():
        file.createDimension(str(dimension), size)
    for name, array in cube.variables.items():
        attributes = dict(array.attrs)
        variable = file.createVariable(
            str(name),
            array.dtype,
            [str(dimension) for dimension in array.dims],
            fill_value=attributes.pop("_FillValue", False),
            **(compressed | {"chunksizes": (*[1] * (array.ndim - 2), *chunk)} if array.ndim > 2 else {}),
        )
        # The library would otherwise pack the integers once more by the `scale_factor` that they are described with.
        variable.set_auto_maskandscale(False)
        variable.setncatts(attributes)
        variables.append((variable, array.values))
    # All definitions precede all values: the library flushes the file whenever it changes from one to the other.
    for variable, values in variables:
        variable[...] = values


def decode(content: bytes, name: str, limits: SeriesLimits | None = None) -> TileSeries:
    """The series in a file.

    A file without `clouds` and `gap_mask` has no cloud masks. Pixels that only `gap_mask` marks count as thick cloud.

    Args:
        name: name of the file, for errors.
        limits: maximum sizes; larger files are not read.

    Raises:
        UserError: the content is not a NetCDF 4 file, is damaged or too large, refers to other files, lacks bands or
            dates, or has dates that are not strictly increasing, a variable of the wrong shape, or implausible
            reflectance.
    """
    if content[:8] != b"\x89HDF\r\n\x1a\n":
        raise UserError(f"{name}: not a NetCDF 4 file")
    with readable(name):
        require_self_contained(content, name)
    # Not under its own name: the library would open a name that looks like a URL.
    with readable(name), _library, netCDF4.Dataset("series", memory=content) as file:
        file.set_auto_maskandscale(False)
        dataset = _read(file, name, limits or SeriesLimits())
    with readable(name):
        return series_of(dataset, name)


def _read(file: netCDF4.Dataset, name: str, limits: SeriesLimits) -> xarray.Dataset:
    """The parts of the file that make up a series, unconverted, after checking the limits."""
    bands = [band for band in S2_ALL_BANDS if band in file.variables]
    if not bands:
        raise UserError(f"{name}: no variable is a band: name bands {', '.join(S2_ALL_BANDS[1:4])}, …")
    sizes = {dimension: len(found) for dimension, found in file.dimensions.items()}
    for dimension in DIMENSIONS:
        if not sizes.get(dimension):
            raise UserError(f"{name}: no dimension {dimension}; a band is a variable over time, y, x")
    frames, height, width = (sizes[dimension] for dimension in DIMENSIONS)
    uncertainties = [f"{band}_{UNCERTAINTY}" for band in bands if f"{band}_{UNCERTAINTY}" in file.variables]
    # Checked from the header, before any pixel is unpacked: a small file may hold gigabytes of zeros.
    samples = [f"{band}_{SAMPLES}" for band in bands if f"{band}_{SAMPLES}" in file.variables]
    further = len(uncertainties) + len(samples) * sizes.get("sample", 0)
    limits.require(name, frames, height, width, len(bands) + further)
    wanted: dict[str, tuple[str, ...]] = dict.fromkeys([*bands, CLOUD_CLASSES, GAP_MASK], DIMENSIONS)
    wanted |= dict.fromkeys(uncertainties, DIMENSIONS) | dict.fromkeys(samples, SAMPLE_DIMENSIONS)
    wanted |= {NEVER_OBSERVED: DIMENSIONS[1:], PROVENANCE: DIMENSIONS, SUSPECT: DIMENSIONS}
    limits.require_tracks(name, len(tracks_in(file.variables)))
    for track in tracks_in(file.variables):
        time = f"{track}_time"
        for band in S1_BANDS:
            if f"{track}_{band}" not in file.variables:
                raise UserError(f"{name}: radar track {track} lacks {track}_{band}")
            wanted[f"{track}_{band}"] = (time, "y", "x")
        limits.require(name, sizes.get(time, 0), height, width, len(S1_BANDS))
    for variable, dimensions in wanted.items():
        if variable in file.variables:
            _require_shape(file.variables[variable], name, variable, dimensions)
    # Other variables that may describe position and time: scalars, or along one dimension.
    largest = max(limits.side, limits.dates)
    small = [one for one, found in file.variables.items() if found.ndim < 2 and found.size <= largest]
    contents = {}
    for variable in [*(one for one in wanted if one in file.variables), *small]:
        found = file.variables[variable]
        attributes = {attribute: found.getncattr(attribute) for attribute in found.ncattrs()}
        contents[variable] = (found.dimensions, found[...], attributes)
    return xarray.Dataset(contents, attrs={one: file.getncattr(one) for one in file.ncattrs()})


def _require_shape(found: netCDF4.Variable, name: str, variable: str, dimensions: tuple[str, ...]) -> None:
    if found.dimensions != dimensions:
        shown = ", ".join(found.dimensions) or "nothing"
        raise UserError(f"{name}: {variable} is over {shown}; it must be over {', '.join(dimensions)}")
    if getattr(found.dtype, "kind", "") not in "iuf":
        raise UserError(f"{name}: {variable} is not numeric")

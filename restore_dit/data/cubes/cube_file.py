"""One NetCDF file of a cube: its dates, grid and CRS, and its variables as arrays."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from restore_dit.config.cube_mapping import CubeMapping, Dimensions, Product
from restore_dit.data import storage
from restore_dit.data.cubes.grid import Axis, Grid
from restore_dit.errors import UserError

_CRS_ATTRIBUTES = ("crs_wkt", "spatial_ref", "crs", "epsg")


@dataclass(frozen=True)
class CubeFile:
    """An open file: `times` datetime64[s] [T] as in the file, `grid` and `crs` of all its images."""

    uri: str
    dataset: xarray.Dataset
    dimensions: Dimensions
    times: NDArray[np.datetime64]
    grid: Grid
    crs: str

    def images(self, variable: str) -> NDArray[Any]:
        """A variable's stored values [T, h, w], neither scaled nor masked.

        Raises:
            UserError: no such variable, other dimensions, or damaged data.
        """
        if variable not in self.dataset:
            known = ", ".join(str(name) for name in self.dataset.data_vars)
            raise UserError(f"{self.uri}: no variable {variable}; it has {known}: correct the mapping")
        wanted = (self.dimensions.time, self.dimensions.y, self.dimensions.x)
        array = self.dataset[variable]
        if set(array.dims) != set(wanted):
            raise UserError(
                f"{self.uri}: variable {variable} has dimensions {', '.join(map(str, array.dims))}, not "
                f"{', '.join(wanted)}: correct the mapping's dimensions"
            )
        with _readable(self.uri):
            return array.transpose(*wanted).values

    def physical(self, variable: str, product: Product) -> NDArray[np.float32]:
        """A variable in the unit that the product's scale and offset lead to, [T, h, w], NaN where no data."""
        stored = self.images(variable)
        if stored.dtype.kind not in "iuf":
            raise UserError(f"{self.uri}: variable {variable} holds {stored.dtype}, not numbers: correct the mapping")
        missing = np.isin(stored, product.no_data) | ~np.isfinite(stored)
        if product.no_data_at_or_below is not None:
            missing |= stored <= product.no_data_at_or_below
        values = stored.astype(np.float64) * product.scale + product.offset
        values[missing] = np.nan
        return values.astype(np.float32)


@contextmanager
def open_cube_file(location: storage.Location, mapping: CubeMapping) -> Iterator[CubeFile]:
    """The file, opened without loading its images.

    Raises:
        UserError: not readable NetCDF, a missing dimension or coordinate, times that are no dates, an irregular grid,
            or no CRS.
    """
    # Attributes of these files may be arrays: whatever xarray would decode from them is read here, by name.
    source: Any = location.path if location.is_local else io.BytesIO(storage.read_bytes(location))
    if location.is_local and not storage.exists(location):
        raise UserError(f"{location.uri}: not found: check the path")
    with _readable(location.uri):
        dataset = xarray.open_dataset(source, engine="h5netcdf", mask_and_scale=False, decode_coords=False)
    with dataset:
        dimensions = mapping.dimensions
        for name in (dimensions.time, dimensions.y, dimensions.x):
            if name not in dataset.dims or name not in dataset.variables:
                raise UserError(
                    f"{location.uri}: no dimension {name} with coordinates; it has "
                    f"{', '.join(map(str, dataset.dims))}: correct the mapping's dimensions"
                )
        with _readable(location.uri):
            times = dataset[dimensions.time].values
            y, x = (dataset[name].values for name in (dimensions.y, dimensions.x))
        if times.dtype.kind != "M" or np.isnat(times).any():
            raise UserError(f"{location.uri}: {dimensions.time} holds no dates of the usual calendar: mend the file")
        yield CubeFile(
            uri=location.uri,
            dataset=dataset,
            dimensions=dimensions,
            times=times.astype("datetime64[s]"),
            grid=_grid(location.uri, y, x),
            crs=_crs(location.uri, dataset, mapping.crs),
        )


def _grid(uri: str, y: NDArray[Any], x: NDArray[Any]) -> Grid:
    spacings = []
    for name, centres in (("y", y), ("x", x)):
        if centres.ndim != 1 or centres.dtype.kind not in "iuf" or not len(centres) or not np.isfinite(centres).all():
            raise UserError(f"{uri}: the coordinates of {name} are no list of numbers: mend the file")
        steps = np.diff(centres.astype(np.float64))
        spacing = steps.mean() if len(steps) else np.nan
        if len(steps) and (spacing == 0 or (abs(steps - spacing) > 0.01 * abs(spacing)).any()):
            raise UserError(f"{uri}: the coordinates of {name} are not evenly spaced: resample the cube to a grid")
        spacings.append(float(spacing))
    down, right = spacings
    if np.isnan(down) and np.isnan(right):
        raise UserError(f"{uri}: a single pixel, whose size nobody can tell: give a larger cube")
    down = -abs(right) if np.isnan(down) else down
    right = abs(down) if np.isnan(right) else right
    return Grid(Axis(float(y[0]), down, len(y)), Axis(float(x[0]), right, len(x)))


def _crs(uri: str, dataset: xarray.Dataset, fallback: str | None) -> str:
    """An authority string such as EPSG:32631 where the CRS has one, else WKT."""
    mapped = {dataset.attrs.get("grid_mapping")} | {array.attrs.get("grid_mapping") for array in dataset.values()}
    names = [name for name in dataset.variables if name in mapped or name in ("spatial_ref", "crs")]
    holders = [dataset[name].attrs for name in names] + [dataset.attrs]
    stated = [attributes[key] for attributes in holders for key in _CRS_ATTRIBUTES if key in attributes]
    for text in [*stated, fallback]:
        if text is None:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "+init=epsg:…" is old but clear
                crs = CRS.from_user_input(int(text) if str(text).isdigit() else str(text))
        except (CRSError, ValueError):
            continue
        code = crs.to_epsg()
        return f"EPSG:{code}" if code else str(crs.to_wkt())
    raise UserError(f"{uri}: says no CRS (crs_wkt, spatial_ref, crs or epsg): give it as `crs` in the mapping")


@contextmanager
def _readable(uri: str) -> Iterator[None]:
    # What xarray, h5netcdf and h5py raise of a damaged file is not one kind of error.
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        message = " ".join(str(error).split())[:200]
        raise UserError(f"{uri}: cannot be read as NetCDF 4 ({message}): fetch or convert it again") from None

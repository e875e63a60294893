"""One file of a cube: its dates, grid and CRS, and its variables as arrays."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import xarray
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.transform import Affine

from restore_dit.config.cube_mapping import CubeMapping, Dimensions, OpticalProduct, Product, RadarProduct
from restore_dit.data import storage
from restore_dit.data.cubes.cf_values import among, scale_and_offset, stored_numbers
from restore_dit.data.cubes.datasets import open_dataset, readable
from restore_dit.data.cubes.georeference import place_of_images
from restore_dit.data.cubes.geotiff_series import is_geotiff, open_geotiff_series
from restore_dit.data.cubes.times import acquisition_times
from restore_dit.errors import UserError

ProductT = TypeVar("ProductT", OpticalProduct, RadarProduct)

_DEGREES = {"y": ("latitude", "lat"), "x": ("longitude", "lon")}
"""Alternative dimension names in cubes in degrees."""


@dataclass(frozen=True)
class CubeFile:
    """An open file or series of GeoTIFFs: `times` datetime64[s] [T] in file order, and the `grid` and `crs` of all its
    images, presented north up whatever their order in the file."""

    uri: str
    dataset: xarray.Dataset
    dimensions: Dimensions
    times: NDArray[np.datetime64]
    grid: GeoBox
    crs: str

    def images(self, label: str, product: Product) -> xarray.DataArray:
        """The stored values [T, h, w] of a variable, or of a band along the product's variable, not yet loaded.

        Raises:
            UserError: there is no such variable or band, or it has other dimensions.
        """
        array = self._array(label, product)
        wanted = (self.dimensions.time, self.dimensions.y, self.dimensions.x)
        if self.dataset[self.dimensions.time].ndim == 0:
            array = array.expand_dims(self.dimensions.time)  # a single date is often stored without a dimension
        if set(array.dims) != set(wanted):
            raise UserError(
                f"{self.uri}: variable {array.name} has dimensions {', '.join(map(str, array.dims))}, not "
                f"{', '.join(wanted)}: correct the mapping's dimensions"
            )
        return array.transpose(*wanted)

    def labels(self, product: Product) -> list[str]:
        """The labels by which the product's bands may be referred to: variables, or labels along the band dimension.

        Raises:
            UserError: there is not exactly one variable with bands, or its bands have no names.
        """
        if product.variable is None:
            return [str(name) for name in self.dataset.variables]
        array = self._along_bands(product.variable)
        return [_text(value) for value in array[self.dimensions.band].values]

    def held_of(self, product: ProductT) -> ProductT | None:
        """The product as contained in this file: for an optional product only what is present, or None if it has no
        band.

        Raises:
            UserError: as for `labels`.
        """
        if not product.optional:
            return product
        there = set(self.labels(product))
        bands = {band: label for band, label in product.bands.items() if label in there}
        if not bands:
            return None
        if not isinstance(product, OpticalProduct):
            return product  # the radar reader reports which polarisation is missing
        probability = product.cloud_probability
        held: dict[str, Any] = {"bands": bands}
        held["classification"] = product.classification if product.classification in there else None
        held["cloud_probability"] = probability if probability and probability.variable in there else None
        return product.model_copy(update=held)

    def _array(self, label: str, product: Product) -> xarray.DataArray:
        if product.variable is None:
            if label not in self.dataset:
                raise UserError(f"{self.uri}: no variable {label}; it has {self._variables()}: correct the mapping")
            return self.dataset[label]
        labels = self.labels(product)
        if label not in labels:
            raise UserError(f"{self.uri}: no band {label}; it has {', '.join(labels)}: correct the mapping")
        return self._along_bands(product.variable).isel({self.dimensions.band: labels.index(label)})

    def _along_bands(self, variable: str) -> xarray.DataArray:
        found = [str(name) for name in self.dataset.data_vars if fnmatch.fnmatchcase(str(name), variable)]
        place = {
            self.dimensions.band,
            self.dimensions.y,
            self.dimensions.x,
        }  # a variable without these dimensions describes the bands
        found = [name for name in found if place <= set(self.dataset[name].dims)]
        if len(found) != 1:
            raise UserError(
                f"{self.uri}: {len(found)} variables along {self.dimensions.band}, y and x match {variable}; "
                f"it has {self._variables()}: correct the mapping's variable or dimensions.band"
            )
        array = self.dataset[found[0]]
        if self.dimensions.band not in array.coords:
            raise UserError(
                f"{self.uri}: dimension {self.dimensions.band} has no band names: add them as its coordinate"
            )
        return array

    def _variables(self) -> str:
        return ", ".join(str(name) for name in self.dataset.data_vars) or "none"

    def stored(self, label: str, product: Product) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Stored values [T, h, w], and a mask of those that are no data according to the file itself.

        Raises:
            UserError: as for `images`; values or fill values that are not numbers; damaged data.
        """
        array = self.images(label, product)
        with readable(self.uri):
            values = array.values
        if values.dtype.kind not in "iuf":
            raise UserError(f"{self.uri}: {label} holds {values.dtype}, not numbers: correct the mapping")
        return stored_numbers(values, array.attrs, f"{self.uri}: {label}")

    def physical(
        self, label: str, product: Product, offset: float | NDArray[np.floating] | None = None
    ) -> NDArray[np.float32]:
        """A band [T, h, w] in the unit that the product's scale and offset lead to, NaN for no data.

        Args:
            label: variable, or band along the product's variable.
            product: the meaning of its values.
            offset: replaces the product's offset, for all acquisitions or for each [T].
        """
        stored, missing = self.stored(label, product)
        missing |= among(stored, np.array(product.no_data))
        if product.no_data_at_or_below is not None:
            missing |= stored <= product.no_data_at_or_below
        values = stored.astype(np.float64)
        if product.packed:
            where = f"{self.uri}: {label}"
            factors, additions = scale_and_offset(self.images(label, product).attrs, len(values), where)
            values = values * factors.reshape(-1, 1, 1) + additions.reshape(-1, 1, 1)
        offsets = np.asarray(product.offset if offset is None else offset, np.float64)
        values = values * product.scale + offsets.reshape(-1, 1, 1)
        values[missing] = np.nan
        with np.errstate(over="ignore"):  # an undeclared fill value; infinity is just as implausible
            return values.astype(np.float32)

    def says(self, variable: str) -> bool:
        """Whether the file has this variable or attribute for `of_each_acquisition`."""
        return variable in self.dataset or variable in self.dataset.attrs

    def of_each_acquisition(self, variable: str) -> list[str]:
        """The value for each acquisition, as text [T], of a variable along time, or of a scalar variable or attribute
        for all.

        Raises:
            UserError: there is no such variable, or it has other dimensions.
        """
        if variable not in self.dataset and variable in self.dataset.attrs:
            return [_text(self.dataset.attrs[variable])] * len(self.times)
        if variable not in self.dataset:
            known = ", ".join(
                str(name) for name, one in self.dataset.variables.items() if set(one.dims) <= {self.dimensions.time}
            )
            raise UserError(f"{self.uri}: no variable {variable} of acquisitions; it has {known}: correct the mapping")
        array = self.dataset[variable]
        if array.dims not in ((), (self.dimensions.time,)):
            raise UserError(f"{self.uri}: {variable} has dimensions {', '.join(map(str, array.dims))}, not time alone")
        with readable(self.uri):
            return [_text(value) for value in np.broadcast_to(array.values, len(self.times))]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace").strip()
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))  # 15.0 means orbit 15
    return str(value).strip()


@contextmanager
def open_cube_files(files: Sequence[storage.Location], product: Product, mapping: CubeMapping) -> Iterator[CubeFile]:
    """Opens a file, or the GeoTIFFs of a product together, without loading images.

    Raises:
        UserError: the file is not readable, lacks a dimension or coordinate, has invalid times or an irregular grid, or
            has no CRS or one that does not match the coordinates.
    """
    first = files[0]
    if is_geotiff(first):
        with open_geotiff_series(files, product, mapping.dimensions) as dataset:
            yield _cube_file(files[0].uri, dataset, mapping)
    else:
        with open_dataset(first) as dataset:
            yield _cube_file(first.uri, dataset, mapping)


def _cube_file(uri: str, dataset: xarray.Dataset, mapping: CubeMapping) -> CubeFile:
    dimensions = _named_in(dataset, mapping.dimensions)
    for name in (dimensions.time, dimensions.y, dimensions.x):
        single = name == dimensions.time and name in dataset.variables and dataset[name].ndim == 0
        if not single and (name not in dataset.dims or name not in dataset.variables):
            raise UserError(
                f"{uri}: no dimension {name} with coordinates; it has {', '.join(map(str, dataset.dims)) or 'none'}: "
                "correct the mapping's dimensions"
            )
    with readable(uri):
        if not dataset[dimensions.time].size:
            raise UserError(f"{uri}: contains no acquisition ({dimensions.time} is empty): download it again")
        times = acquisition_times(dataset, uri, dimensions.time)
    place = place_of_images(uri, dataset, (dimensions.y, dimensions.x), mapping.crs)
    grid = GeoBox((dataset.sizes[dimensions.y], dataset.sizes[dimensions.x]), Affine(*place.transform), place.crs)
    if grid.affine.e > 0:
        grid, dataset = grid.flipy(), dataset.isel({dimensions.y: slice(None, None, -1)})
    if grid.affine.a < 0:
        grid, dataset = grid.flipx(), dataset.isel({dimensions.x: slice(None, None, -1)})
    return CubeFile(
        uri=uri,
        dataset=dataset,
        dimensions=dimensions,
        times=times,
        grid=grid,
        crs=place.crs,
    )


def _named_in(dataset: xarray.Dataset, dimensions: Dimensions) -> Dimensions:
    """The mapping's dimensions, with y or x replaced by the file's latitude or longitude if it has no dimension of that
    name."""
    found = {
        axis: name
        for axis, names in _DEGREES.items()
        for name in names
        if getattr(dimensions, axis) not in dataset.dims and name in dataset.dims
    }
    return dimensions.model_copy(update=found)

"""Where a file's images lie, from everything it says about that: coordinates of pixel centres, a transform, a CRS; and
a tile's georeference in NetCDF's terms: a grid mapping and coordinates of pixel centres.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyproj
import xarray
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.transform import Affine

from restore_dit.data.crs import (
    coordinate_system,
    crs_from_parameters,
    crs_from_text,
    crs_name,
    require_sentinel_pixels,
)
from restore_dit.data.cubes.grid import SAME_PIXEL
from restore_dit.errors import UserError
from restore_dit.series import Georeference

_CRS_ATTRIBUTES = ("crs_wkt", "spatial_ref", "crs", "epsg", "epsg_code")
_CRS_VARIABLES = ("spatial_ref", "crs")
_CODE_VARIABLES = ("epsg", "proj:epsg", "proj:code")

_TRANSFORM_ATTRIBUTES = ("GeoTransform", "transform")
"""GDAL's attribute, which rioxarray and odc-geo write; and stackstac's, also used by older versions of xarray."""

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_SPEC = re.compile(r"bounds=\(([^)]*)\).*resolutions_xy=\(([^)]*)\)", re.DOTALL)
_SHOWN_DIGITS = 0.005
"""Rounding error of a transform that was written as text in the matrix form printed by `affine`."""

_DEGREE_NAMES = {"lat", "latitude", "lon", "longitude"}

Axes = tuple[str, str]
"""Names of the dimensions y and x."""


class MissingCrs(UserError):
    """A file with coordinates states no CRS."""


def place_of_images(uri: str, dataset: xarray.Dataset, axes: Axes, fallback_crs: str | None = None) -> Georeference:
    """The georeference of a dataset's pixels, in the order of its rows and columns.

    Coordinates are taken as pixel centres. If the file also states a transform that differs by up to half a pixel, the
    transform takes precedence, because some coordinates refer to pixel corners (stackstac's default) or are rounded. If
    it differs by whole pixels, the coordinates take precedence: the file was cropped without updating the transform.

    Args:
        uri: the file, for errors.
        dataset: its content.
        axes: names of its dimensions y and x, which have coordinates.
        fallback_crs: the CRS if the file states none.

    Raises:
        UserError: coordinates that are not numbers or not evenly spaced, a single pixel without a transform, a
            transform that contradicts the coordinates, no CRS, or one in which pixels of this size cannot be
            Sentinel's.
    """
    y, x = (dataset.variables[name].values for name in axes)
    holders = _grid_mappings(dataset)
    transforms = list(_stated_transforms(dataset, holders, axes))
    grid = _grid_of_centres(uri, y, x, transforms[0] if transforms else None)
    for stated in transforms:
        grid = _reconciled(uri, grid, stated, (len(y), len(x)))
    crs = crs_of(uri, dataset, fallback_crs, axes)
    place = Georeference(crs_name(crs), (grid.a, grid.b, grid.c, grid.d, grid.e, grid.f))
    require_sentinel_pixels(uri, place, (len(y), len(x)))
    return place


def _grid_of_centres(uri: str, y: NDArray[Any], x: NDArray[Any], stated: Affine | None) -> Affine:
    steps = [_step(uri, name, centres) for name, centres in (("y", y), ("x", x))]
    down, right = steps
    if down is None and right is None and stated is None:
        raise UserError(f"{uri}: a single pixel of unknown size: provide a larger cube")
    if down is None:
        down = stated.e if stated is not None else -abs(right or 0)
    if right is None:
        right = stated.a if stated is not None else abs(down)
    return Affine(right, 0.0, float(x[0]) - right / 2, 0.0, down, float(y[0]) - down / 2)


def _step(uri: str, name: str, centres: NDArray[Any]) -> float | None:
    """The distance between neighbouring centres, or None if there is only one."""
    if centres.ndim != 1 or centres.dtype.kind not in "iuf" or not len(centres) or not np.isfinite(centres).all():
        raise UserError(f"{uri}: the coordinates of {name} are not a list of numbers: fix the file")
    if len(centres) == 1:
        return None
    steps = np.diff(centres.astype(np.float64))
    step = float(steps.mean())
    # Degrees in single precision are accurate to a few percent of a pixel.
    rounding = 2 * float(np.spacing(abs(centres).max())) if centres.dtype.kind == "f" else 0.0
    if step == 0 or (abs(steps - step) > SAME_PIXEL * abs(step) + min(rounding, abs(step) / 4)).any():
        raise UserError(f"{uri}: the coordinates of {name} are not evenly spaced: resample the cube to a grid")
    return step


def _grid_mappings(dataset: xarray.Dataset) -> list[dict[str, Any]]:
    """Attributes of the variables that describe where a dataset's images lie."""
    # "name", or "name: coordinates …" for an image with several coordinate systems
    stated = [dataset.attrs.get("grid_mapping"), *(array.attrs.get("grid_mapping") for array in _data(dataset))]
    mapped = {text.split(":")[0].strip() for text in stated if isinstance(text, str)}
    return [
        array.attrs
        for name, array in dataset.variables.items()
        if name in mapped or name in _CRS_VARIABLES or "grid_mapping_name" in array.attrs
    ]


def _data(dataset: xarray.Dataset) -> list[xarray.Variable]:
    """The variables other than coordinates, bare: to look one up in the dataset itself builds its coordinates anew."""
    return [dataset.variables[name] for name in dataset.data_vars]


def _stated_transforms(dataset: xarray.Dataset, holders: list[dict[str, Any]], axes: Axes) -> Iterator[Affine]:
    images = [array.attrs for array in _data(dataset) if {*axes} <= {*array.dims}]
    for attributes in [*holders, dataset.attrs, *images]:
        for name in _TRANSFORM_ATTRIBUTES:
            found = _affine(attributes[name]) if name in attributes else None
            if found is not None:
                yield found
        spec = _SPEC.search(str(attributes["spec"])) if "spec" in attributes else None  # stackstac's, as text
        if spec:
            west, _, _, north = map(float, _NUMBER.findall(spec[1]))
            right, down = map(float, _NUMBER.findall(spec[2]))
            yield Affine(right, 0.0, west, 0.0, -down, north)


def _affine(stated: Any) -> Affine | None:
    """The transform from six or nine numbers in the order of GDAL or of `affine`; None for anything else, or if rounded
    too coarsely."""
    if isinstance(stated, str):
        numbers = [float(number) for number in _NUMBER.findall(stated)]
        rounding = _SHOWN_DIGITS if "|" in stated else 0.0
    else:
        numbers = np.asarray(stated).ravel().tolist() if np.asarray(stated).dtype.kind in "iuf" else []
        rounding = 0.0
    if len(numbers) not in (6, 9):
        return None
    for grid in (Affine(*numbers[:6]), Affine.from_gdal(*numbers[:6])):
        if not (grid.b or grid.d) and rounding < SAME_PIXEL * min(abs(grid.a), abs(grid.e)):
            return grid
    return None


def _reconciled(uri: str, centres: Affine, stated: Affine, size: tuple[int, int]) -> Affine:
    """The transform given by the coordinates, or the stated one where it takes precedence."""
    height, width = size
    # Rows and columns follow the coordinates: GDAL states a north-up transform even for files written south first.
    if stated.e * centres.e < 0:
        stated = stated @ Affine.translation(0, height) @ Affine.scale(1, -1)
    if stated.a * centres.a < 0:
        stated = stated @ Affine.translation(width, 0) @ Affine.scale(-1, 1)
    to_pixels = ~centres @ stated
    begin, end = np.array(to_pixels @ (0, 0)), np.array(to_pixels @ (width, height)) - (width, height)
    if abs(end - begin).max() <= 2 * SAME_PIXEL:
        if abs(begin).max() <= 0.5 + SAME_PIXEL:
            return stated
        if abs(begin - np.rint(begin)).max() <= SAME_PIXEL:
            return centres
    raise UserError(
        f"{uri}: its coordinates describe pixels of {abs(centres.e):.10g}×{abs(centres.a):.10g} from {centres.c:.10g}, "
        f"{centres.f:.10g}, but its transform {abs(stated.e):.10g}×{abs(stated.a):.10g} from {stated.c:.10g}, "
        f"{stated.f:.10g}: fix or remove the wrong one"
    )


def crs_of(uri: str, dataset: xarray.Dataset, fallback: str | None, axes: Axes) -> CRS:
    """The CRS of a dataset: from text, from the parameters of its grid mapping, or implied by coordinates in degrees.

    Args:
        uri: the file, for errors.
        dataset: its content.
        fallback: the CRS if the file states none.
        axes: names of its dimensions y and x.

    Raises:
        UserError: there is no CRS.
    """
    mappings = _grid_mappings(dataset)
    images = [array.attrs for array in _data(dataset) if {*axes} <= {*array.dims}]
    holders = [*mappings, dataset.attrs, *images]
    stated = [attributes[key] for attributes in holders for key in _CRS_ATTRIBUTES if key in attributes]
    stated += [dataset[name].values.ravel()[0] for name in _CODE_VARIABLES if name in dataset and dataset[name].size]
    for text in stated:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "+init=epsg:…" is deprecated but unambiguous
                return crs_from_text(str(text))
        except (CRSError, ValueError):
            continue
    for attributes in mappings:
        if "grid_mapping_name" in attributes:
            try:
                return crs_from_parameters(attributes)
            except CRSError:
                continue
    if fallback is not None:
        try:
            return crs_from_text(fallback)
        except CRSError:
            raise UserError(f"{uri}: the mapping's crs {fallback!r} is unknown: use one such as EPSG:32631") from None
    if all(_in_degrees(name, dataset[name]) for name in axes):
        return CRS.from_epsg(4326)
    raise MissingCrs(
        f"{uri}: has no CRS (crs_wkt, spatial_ref, crs or epsg): set `crs` in the mapping, or the attribute "
        "`crs` of the data, for example to EPSG:32631"
    )


def _in_degrees(name: str, axis: xarray.DataArray) -> bool:
    units, standard_name = (str(axis.attrs.get(key, "")) for key in ("units", "standard_name"))
    return units.startswith("degree") or bool(_DEGREE_NAMES & {name.lower(), standard_name})


def grid_mapping(georeference: Georeference) -> dict[str, Any]:
    """Attributes of the grid mapping variable: CF parameters and `crs_wkt`, and GDAL's `spatial_ref` and
    `GeoTransform`."""
    crs = coordinate_system(georeference)
    a, b, c, d, e, f = georeference.transform
    return {
        **pyproj.CRS.from_wkt(crs.to_wkt()).to_cf(),
        "crs_wkt": crs.to_wkt(version="WKT2_2019"),
        "spatial_ref": crs.to_wkt(),
        "GeoTransform": " ".join(repr(float(value)) for value in (c, a, b, f, d, e)),
    }


def pixel_centres(georeference: Georeference, height: int, width: int) -> dict[str, tuple]:
    """The coordinates y [H] and x [W] of pixel centres, in units of the CRS.

    Raises:
        UserError: the grid is rotated relative to its CRS, which one coordinate per row and column cannot express.
    """
    a, b, c, d, e, f = georeference.transform
    if b or d:
        raise UserError("NetCDF cannot represent a grid rotated relative to its CRS: write GeoTIFFs instead")
    geographic = coordinate_system(georeference).is_geographic
    names = ("latitude", "longitude") if geographic else ("projection_y_coordinate", "projection_x_coordinate")
    units = ("degrees_north", "degrees_east") if geographic else ("m", "m")
    return {
        "y": ("y", f + e * (np.arange(height) + 0.5), {"standard_name": names[0], "units": units[0], "axis": "Y"}),
        "x": ("x", c + a * (np.arange(width) + 0.5), {"standard_name": names[1], "units": units[1], "axis": "X"}),
    }


def georeference_of(uri: str, dataset: xarray.Dataset, *, needs_crs: bool = True) -> Georeference | None:
    """A file's georeference, from its coordinates y and x and its CRS; None without coordinates or, unless it
    `needs_crs`, without a CRS.

    Raises:
        UserError: as for `place_of_images`.
    """
    if "y" not in dataset.coords or "x" not in dataset.coords:
        return None
    try:
        return place_of_images(uri, dataset, ("y", "x"))
    except MissingCrs:
        if needs_crs:
            raise
        return None

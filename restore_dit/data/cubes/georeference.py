"""Where a file's images lie: their CRS and their grid of pixel centres."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray
from numpy.typing import NDArray
from rasterio.errors import CRSError

from restore_dit.data.crs import crs_from_text
from restore_dit.data.cubes.grid import Axis, Grid
from restore_dit.errors import UserError

_CRS_ATTRIBUTES = ("crs_wkt", "spatial_ref", "crs", "epsg", "epsg_code")
_CRS_VARIABLES = ("spatial_ref", "crs")
_CODE_VARIABLES = ("epsg", "proj:epsg", "proj:code")


def grid_of(uri: str, y: NDArray[Any], x: NDArray[Any]) -> Grid:
    """The grid of these pixel centres.

    Raises:
        UserError: coordinates that are no numbers or not evenly spaced, or a single pixel.
    """
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


def crs_of(uri: str, dataset: xarray.Dataset, fallback: str | None, axes: tuple[str, str]) -> str:
    """An authority string such as EPSG:32631 where the CRS has one, else WKT.

    Args:
        uri: the file, for errors.
        dataset: its content.
        fallback: the CRS where the file says none.
        axes: names of its coordinates y and x.

    Raises:
        UserError: no CRS, or one in degrees.
    """
    mapped = {dataset.attrs.get("grid_mapping")} | {array.attrs.get("grid_mapping") for array in dataset.values()}
    names = [name for name in dataset.variables if name in mapped or name in _CRS_VARIABLES]
    holders = [dataset[name].attrs for name in names] + [dataset.attrs]
    stated = [attributes[key] for attributes in holders for key in _CRS_ATTRIBUTES if key in attributes]
    stated += [dataset[name].values.ravel()[0] for name in _CODE_VARIABLES if name in dataset and dataset[name].size]
    for text in [*stated, fallback]:
        if text is None:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "+init=epsg:…" is old but clear
                crs = crs_from_text(str(text))
        except (CRSError, ValueError):
            continue
        code = crs.to_epsg()
        name = f"EPSG:{code}" if code else str(crs.to_wkt())
        if crs.is_geographic:
            raise _in_degrees(uri, f"its CRS {name[:40]} is")
        return name
    if any(str(dataset[axis].attrs.get("units", "")).startswith("degree") for axis in axes):
        raise _in_degrees(uri, f"its coordinates {' and '.join(axes)} are")
    raise UserError(f"{uri}: says no CRS (crs_wkt, spatial_ref, crs or epsg): give it as `crs` in the mapping")


def _in_degrees(uri: str, what: str) -> UserError:
    return UserError(f"{uri}: {what} in degrees of latitude and longitude: reproject the cube to metres, such as UTM")

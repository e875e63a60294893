"""`restore_dit.fill`: the gaps of an `xarray.Dataset`, in this process, without store, configuration or Ray."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import xarray

from restore_dit.config.jobs import SHIPPED_MODEL
from restore_dit.data.cubes.cf_values import scale_and_offset
from restore_dit.data.exchange.netcdf import series_of
from restore_dit.data.storage import Place
from restore_dit.errors import UserError
from restore_dit.reconstruction.model_directory import Model, load_model
from restore_dit.reconstruction.reconstruct import fill_gaps, provenance
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import CLEAR, NEVER_OBSERVED, REFLECTANCE_SCALE, S2_ALL_BANDS, UNCERTAINTY

_DIMENSIONS = ("time", "y", "x")


def fill(
    dataset: xarray.Dataset, model: Place | Model = SHIPPED_MODEL, *, mask: str | None = None, **options: Any
) -> xarray.Dataset:
    """A Sentinel-2 series without its gaps, in this process.

    Args:
        dataset: dimensions time, y, x; a variable a band (`B02`, …), as reflectance with NaN where it is missing, or
            as integers of reflectance × 10000 (or with `scale_factor`, `add_offset` and `_FillValue` among its
            attributes); dates that ascend. What more there is to go by: `clouds` (0 clear, 1 thick, 2 thin, 3 shadow,
            255 no data) or `gap_mask` (true: missing) over the same dimensions; radar in dB as `S1A_VV`, `S1A_VH` over
            `S1A_time`, y, x, and `S1D_…` of the descending track; coordinates and CRS as rioxarray writes them.
        model: a model directory, or a loaded `Model`; `default` is the one that comes with the package.
        mask: another variable that is true where a pixel is missing, in place of `clouds` and `gap_mask`.
        options: of `SamplingOptions`, such as `mask_dilation`, `steps`, `seed`.

    Returns:
        the same dataset with the gaps of the model's bands filled and every other value as it was. Filled, too, are
        pixels near a cloud or a masked pixel, as many as the model was trained with (2 of the shipped one;
        `mask_dilation=0`: none), since masks rarely reach a cloud's rim. Besides, `gap_mask` (what was filled),
        `never_observed` (on no date at all), `uncertainty` (band, time, y, x: the standard deviation
        of what was filled, in reflectance; of models that know it) and attributes that say how it was made.

    Raises:
        UserError: no band, too few for the model, other dimensions, nothing observed at all.
    """
    loaded = model if isinstance(model, Model) else load_model(model)
    given = _checked(dataset, mask)
    series = series_of(given, "dataset")
    if series.clouds is None:
        clear = np.full((len(series.optical), *series.size), CLEAR, np.uint8)
        series = replace(series, clouds=clear)
    sampling = SamplingOptions(**options)
    gap_free = fill_gaps(loaded, series, sampling)
    filled, gaps = gap_free.series, gap_free.gap_mask
    bands = {
        band: _with_gaps_filled(dataset[band], gaps, filled.optical.values[:, place])
        for place, band in enumerate(filled.optical.bands)
    }
    result = dataset.assign(bands).assign(
        gap_mask=(_DIMENSIONS, gaps, {"long_name": "filled"}),
        never_observed=(_DIMENSIONS[1:], filled.layers[NEVER_OBSERVED] == 1, {"long_name": "observed on no date"}),
    )
    if UNCERTAINTY in filled.layers:
        deviation = filled.layers[UNCERTAINTY].swapaxes(0, 1) / np.float32(REFLECTANCE_SCALE)
        described = {"long_name": "standard deviation of what was filled", "units": "1"}
        result = result.assign_coords(band=list(filled.optical.bands))
        result = result.assign(uncertainty=(("band", *_DIMENSIONS), deviation.astype(np.float32), described))
    name = loaded.origin or loaded.config.name
    made = provenance(loaded, name, sampling, gap_free)
    return result.assign_attrs({key.lower(): value for key, value in made.items()})


def _checked(dataset: xarray.Dataset, mask: str | None) -> xarray.Dataset:
    """The dataset with its dimensions in order and its mask under the name that a file would give it.

    Raises:
        UserError: no band, other dimensions, or no such mask.
    """
    bands = [band for band in S2_ALL_BANDS if band in dataset.data_vars]
    if not bands:
        raise UserError(f"dataset: no variable is a band: name them {', '.join(S2_ALL_BANDS[1:4])}, …")
    for band in bands:
        if set(dataset[band].dims) != set(_DIMENSIONS):
            shown = ", ".join(map(str, dataset[band].dims)) or "nothing"
            raise UserError(f"dataset: {band} is over {shown}; it must be over {', '.join(_DIMENSIONS)}: rename them")
    if mask is not None:
        if mask not in dataset.data_vars:
            raise UserError(f"dataset: no mask {mask}; its variables are {', '.join(map(str, dataset.data_vars))}")
        dataset = dataset.drop_vars("clouds", errors="ignore").assign(gap_mask=dataset[mask].astype(np.uint8))
    elif "gap_mask" in dataset.data_vars:
        dataset = dataset.assign(gap_mask=dataset["gap_mask"].astype(np.uint8))
    others = [dimension for dimension in dataset.dims if dimension not in _DIMENSIONS]
    return dataset.transpose("time", *others, "y", "x")


def _with_gaps_filled(band: xarray.DataArray, gaps: np.ndarray, stored: np.ndarray) -> xarray.DataArray:
    """The band as it was with stored values [T, H, W] in its gaps, in the numbers that it is given in."""
    ordered = band.transpose(*_DIMENSIONS)
    reflectance = stored.astype(np.float64) / REFLECTANCE_SCALE
    if ordered.dtype.kind == "f":
        values = np.where(gaps, reflectance, ordered.values).astype(ordered.dtype)
    else:
        factor, offset = (float(each[0]) for each in scale_and_offset(ordered.attrs, 1, str(band.name)))
        if (factor, offset) == (1.0, 0.0):
            factor = 1 / REFLECTANCE_SCALE
        values = np.where(gaps, np.rint((reflectance - offset) / factor), ordered.values).astype(ordered.dtype)
    return ordered.copy(data=values).transpose(*band.dims)

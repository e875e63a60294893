"""`restore_dit.fill`: fills the gaps of an `xarray.Dataset` in this process, without a tile store, configuration or
Ray."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray
from numpy.typing import NDArray

from restore_dit.config.jobs import SHIPPED_MODEL
from restore_dit.data.cubes.cf_values import FILLS, attribute_numbers, scale_and_offset
from restore_dit.data.exchange.series_dataset import CLOUD_CLASSES, GAP_MASK, PROVENANCE_FLAGS, SUSPECT_FLAGS, series_of
from restore_dit.data.storage import Place
from restore_dit.errors import UserError
from restore_dit.indices import INDICES
from restore_dit.reconstruction.dates import dates_wanted
from restore_dit.reconstruction.gap_free import fill_gaps, provenance
from restore_dit.reconstruction.model_directory import Model, load_model
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import (
    CLEAR,
    NEVER_OBSERVED,
    NO_DATA,
    PROVENANCE,
    REFLECTANCE_SCALE,
    S1_BANDS,
    S2_ALL_BANDS,
    SAMPLES,
    SUSPECT,
    UNCERTAINTY,
)

_DIMENSIONS = ("time", "y", "x")

_OF_RESULTS = re.compile(
    "calibration|dates_tried|interval_.*|mask_dilation|model|model_share_.*|never_observed|orbit_differences|orbits|"
    "radar|remarks|sampler|samples|seed|software|steps|suspect_.*|uncertainty_scaled_by",
    re.IGNORECASE,
)
"""Attributes that say how an earlier result was made."""

_WHERE = "dataset"
"""What errors call the dataset."""


def fill(
    dataset: xarray.Dataset,
    model: Place | Model = SHIPPED_MODEL,
    *,
    mask: str | None = None,
    dates: Sequence[object] = (),
    every: int | str | None = None,
    indices: Sequence[str] = (),
    **options: Any,
) -> xarray.Dataset:
    """Fills the gaps of a Sentinel-2 time series in this process.

    Args:
        dataset: dimensions time, y, x, with ascending dates and one variable per band (`B02`, …). Values are
            reflectance with NaN where missing, or integers of reflectance × 10000 (or scaled by the attributes
            `scale_factor`, `add_offset` and `_FillValue`). Products of processing baseline 04.00 and later contain an
            offset: reflectance = (stored − 1000) / 10000; subtract it first, unless the provider did. Optional
            variables: `clouds` (0 clear, 1 thick, 2 thin, 3 shadow, 255 no data) and `gap_mask` (true: missing) over
            the same dimensions: a pixel that either marks, or on which either is NaN, is missing; radar in dB, as
            `S1A_VV` and `S1A_VH` over `S1A_time`, y, x, and `S1D_…` for the descending track. Coordinates and CRS as
            rioxarray writes them. Other variables, such as a scene classification, are not read.
        model: a model directory or a loaded `Model`; `default` is the model that comes with the package.
        mask: name of the only variable to use as a mask, true or 1 where a pixel is missing, instead of `clouds` and
            `gap_mask`. What an earlier call has filled is always missing, and its other marks are replaced.
        dates: ISO dates to fill and return, acquired or not, at most 60 days outside the series; by default, the dates
            of the series.
        every: instead of `dates`, a number of days (counted from 1 January of the first year), or `month` for the 15th
            of every month.
        indices: vegetation indices to add, ndvi or ndre, with the standard deviation of each filled value.
        options: passed to `SamplingOptions`, for example `mask_dilation`, `seed`, `replace_suspect` or `samples`, the
            number of possible series to draw.

    Returns:
        The same dataset with the gaps in the model's bands filled and every other value unchanged. Because masks rarely
        reach the very edge of a cloud, they are first dilated as in the model's training (by 2 pixels for the shipped
        model), or by `mask_dilation` pixels. The result also has `gap_mask` (true where filled), `provenance` (0
        observed, 1 filled, 2 extrapolated: the pixel was observed only before or only after, 3 unknown: hardly ever
        observed, or not for half a year), `suspect` (1 where a pixel counts as observed, but is probably cloud, haze or
        shadow that the mask missed; filled only with `replace_suspect`), `never_observed` (true where no date is
        observed), `uncertainty` (band, time, y, x: standard deviation of each filled value, in reflectance; only for
        models that estimate it) and attributes that record how it was made. With `samples`, it has `samples` (sample,
        band, time, y, x: reflectance; where a pixel is observed, the same in all); with `indices`, `NDVI` and
        `NDVI_uncertainty` (time, y, x). With `dates` or `every`, other variables over time are left out.

    Raises:
        UserError: the dataset has no bands or too few for the model, bands under other names such as `B2`, other
            dimensions, values that cannot be reflectance, unmasked pixels that are 0 in every band, a mask with other
            values, no observed pixel, neither a mask nor a missing pixel, an index is unknown or needs other bands, or
            an option does not exist or has a value that makes no sense.

    Warns:
        UserWarning: a band is not among those that the model fills, and keeps its gaps; radar does not overlap the
            optical series in time, and is not used; or the values probably still contain the offset of Sentinel-2's
            processing baseline 04.00.
    """
    if not isinstance(dataset, xarray.Dataset):
        advice = "call to_dataset('band') on an array of bands, " if isinstance(dataset, xarray.DataArray) else ""
        raise UserError(
            f"fill takes an xarray.Dataset, not {type(dataset).__name__}: {advice}open a file by open_dataset"
        )
    indices = _names_of(indices)
    dates = () if dates is None else dates.values if isinstance(dates, xarray.DataArray) else dates
    loaded = model if isinstance(model, Model) else load_model(model)
    if not isinstance(mask, str | None):
        raise UserError(
            f"mask is the name of a variable, not {type(mask).__name__}: assign the mask to the dataset first"
        )
    masks: tuple[str, ...] = (CLOUD_CLASSES, GAP_MASK) if mask is None else (mask,)
    former = None
    if {GAP_MASK, PROVENANCE, NEVER_OBSERVED} <= set(dataset.variables):
        masks = tuple(name for name in masks if name != GAP_MASK)
        dataset, former = _without_marks(dataset)
    checked = _checked(dataset, masks, is_required=mask is not None)
    series = series_of(checked, _WHERE, masks, needs_crs=False)  # the result lies where the dataset does
    if former is not None:  # as missing data, which is not dilated again
        values = np.where(former[:, None], NO_DATA, series.optical.values)
        series = replace(series, optical=replace(series.optical, values=values))
    for remark in series.remarks:
        warnings.warn(remark, stacklevel=2)
    if series.clouds is None:
        if former is None and not series.missing().any():
            raise UserError(
                "dataset: has no mask and no missing value, so there is nothing to fill: add `clouds` or `gap_mask`, "
                "name another variable by `mask`, or set NaN where a pixel is missing"
            )
        clear = np.full((len(series.optical), *series.size), CLEAR, np.uint8)
        series = replace(series, clouds=clear)
    sampling = SamplingOptions.named(options)
    wanted = dates_wanted(series.optical.dates, dates, every)
    gap_free = fill_gaps(loaded, series, sampling, where=_WHERE, dates=wanted, indices=indices)
    if wanted is not None:
        dataset = _at_dates(dataset, series.optical.dates.astype("datetime64[D]"), wanted)
    filled, gaps = gap_free.series, gap_free.gap_mask
    left = [band for band in S2_ALL_BANDS if band in dataset.data_vars and band not in filled.optical.bands]
    if left:
        warnings.warn(f"the model does not fill {', '.join(left)}: these bands keep their gaps", stacklevel=2)
    bands = {
        band: _with_gaps_filled(dataset[band], gaps, filled.optical.values[:, place])
        for place, band in enumerate(filled.optical.bands)
    }
    observed_never = filled.layers[NEVER_OBSERVED] == 1
    added = {
        GAP_MASK: xarray.Variable(_DIMENSIONS, gaps, {"long_name": f"filled in {' '.join(filled.optical.bands)}"}),
        PROVENANCE: xarray.Variable(_DIMENSIONS, filled.layers[PROVENANCE], PROVENANCE_FLAGS),
        SUSPECT: xarray.Variable(_DIMENSIONS, filled.layers[SUSPECT], SUSPECT_FLAGS),
        NEVER_OBSERVED: xarray.Variable(_DIMENSIONS[1:], observed_never, {"long_name": "observed on no date"}),
    }
    result = dataset.assign(bands)
    if UNCERTAINTY in filled.layers:
        deviation = filled.layers[UNCERTAINTY].swapaxes(0, 1) / np.float32(REFLECTANCE_SCALE)
        described = {"long_name": "standard deviation of filled values", "units": "1"}
        added[UNCERTAINTY] = xarray.Variable(("band", *_DIMENSIONS), deviation.astype(np.float32), described)
    if SAMPLES in filled.layers:
        drawn = np.moveaxis(filled.layers[SAMPLES], 0, 2) / np.float32(REFLECTANCE_SCALE)
        described = {"long_name": "possible series", "units": "1"}
        added[SAMPLES] = xarray.Variable(("sample", "band", *_DIMENSIONS), drawn.astype(np.float32), described)
        result = result.assign_coords(sample=np.arange(1, sampling.samples + 1))
    if UNCERTAINTY in filled.layers or SAMPLES in filled.layers:
        result = result.assign_coords(band=list(filled.optical.bands))
    for name, values in gap_free.indices.items():
        added[name] = xarray.Variable(_DIMENSIONS, values.astype(np.float32), {"units": "1"})
    for variable in added.values():  # They lie where the bands lie
        band = dataset[filled.optical.bands[0]]
        variable.attrs |= _grid_mapping(band.attrs)
        variable.encoding |= _grid_mapping(band.encoding)
    result = result.assign(added)
    origin = loaded.origin or loaded.config.name
    made = provenance(loaded, origin, sampling, gap_free)
    return result.assign_attrs({key.lower(): value for key, value in made.items()})


def _names_of(indices: Any) -> tuple[str, ...]:
    """The names of the indices that are asked for.

    Raises:
        UserError: they are not a list of names.
    """
    names = () if indices is None else indices
    if isinstance(names, str) or not np.iterable(names) or not all(isinstance(name, str) for name in names):
        raise UserError(f"indices={str(indices)[:40]!r}: give a list of names, such as ['ndvi']")
    return tuple(names)


def _without_marks(dataset: xarray.Dataset) -> tuple[xarray.Dataset, NDArray[np.bool_]]:
    """An earlier result, of `fill` or as a NetCDF file, without all that was added to its bands; and where these were
    filled, [T, H, W].

    Raises:
        UserError: the gap mask has other dimensions.
    """
    gap_mask = dataset[GAP_MASK]
    if set(gap_mask.dims) != set(_DIMENSIONS):
        shown = ", ".join(map(str, gap_mask.dims)) or "nothing"
        raise UserError(f"dataset: the mask {GAP_MASK} has dimensions {shown}; it needs {', '.join(_DIMENSIONS)}")
    indices = {index.split()[0] for index in INDICES}
    added = {GAP_MASK, PROVENANCE, SUSPECT, NEVER_OBSERVED, UNCERTAINTY, SAMPLES, *indices}
    added |= {f"{name}_{kind}" for name in (*S2_ALL_BANDS, *indices) for kind in (UNCERTAINTY, SAMPLES)}
    bare = dataset.drop_vars([name for name in dataset.variables if name in added])
    alone = [name for name in ("band", "sample") if name in bare.coords and not _is_used(bare, name)]
    bare = bare.drop_vars(alone)
    attributes = {key: value for key, value in bare.attrs.items() if not _OF_RESULTS.fullmatch(str(key))}
    return bare.drop_attrs(deep=False).assign_attrs(attributes), (gap_mask.transpose(*_DIMENSIONS) != 0).values


def _is_used(dataset: xarray.Dataset, dimension: str) -> bool:
    return any(dimension in variable.dims for name, variable in dataset.variables.items() if name != dimension)


def _checked(dataset: xarray.Dataset, masks: Sequence[str], *, is_required: bool) -> xarray.Dataset:
    """The dataset with its dimensions in the order time, y, x and with numbers for the Boolean values of its masks.

    Raises:
        UserError: there is no band, a band or a mask has other dimensions, or a mask that is required does not exist.
    """
    for name in map(str, dataset.data_vars):
        band = _band_meant(name)
        if band is not None and band not in dataset.data_vars:
            raise UserError(f"dataset: {name} is not the name of a band: rename it to {band}, or drop it")
    bands = [band for band in S2_ALL_BANDS if band in dataset.data_vars]
    if not bands:
        raise UserError(f"dataset: contains no bands; name the variables {', '.join(S2_ALL_BANDS[1:4])}, …")
    for band in bands:
        if set(dataset[band].dims) != set(_DIMENSIONS):
            shown = ", ".join(map(str, dataset[band].dims)) or "nothing"
            raise UserError(f"dataset: {band} has dimensions {shown}; rename them to {', '.join(_DIMENSIONS)}")
    empty = [dimension for dimension in _DIMENSIONS if not dataset.sizes[dimension]]
    if empty:
        raise UserError(f"dataset: the dimension {empty[0]} has length 0: nothing was selected")
    for name in masks:
        if is_required and name not in dataset.variables:
            raise UserError(
                f"dataset: no variable {name} for the mask; its variables are {', '.join(map(str, dataset.variables))}"
            )
        if name in dataset.variables and set(dataset[name].dims) != set(_DIMENSIONS):
            shown = ", ".join(map(str, dataset[name].dims)) or "nothing"
            raise UserError(f"dataset: the mask {name} has dimensions {shown}; it needs {', '.join(_DIMENSIONS)}")
    for name in ("band", "sample"):
        if name in dataset.dims:
            raise UserError(f"dataset: has a dimension {name}, which the result may need itself: rename or drop it")
    for name in masks:
        if name in dataset.variables and dataset[name].dtype == bool:
            # A classification's attributes, such as `nodata`, outlive `isin` but mean nothing for its result.
            dataset = dataset.assign({name: dataset[name].drop_attrs(deep=False).astype(np.uint8)})
    misnamed = [name for name in S1_BANDS if name in dataset.variables]
    if misnamed:
        raise UserError(
            f"dataset: {misnamed[0]} is not the name of a radar variable: rename it to S1A_{misnamed[0]} (ascending "
            f"track) or S1D_{misnamed[0]}, with the dates in S1A_time or S1D_time, or drop it"
        )
    for radar, variable in dataset.data_vars.items():
        track, _, polarisation = str(radar).rpartition("_")
        if track and polarisation in S1_BANDS and set(variable.dims) != {f"{track}_time", "y", "x"}:
            shown = ", ".join(map(str, variable.dims)) or "nothing"
            raise UserError(f"dataset: {radar} has dimensions {shown}; rename them to {track}_time, y, x")
    others = [dimension for dimension in dataset.dims if dimension not in _DIMENSIONS]
    return dataset.transpose("time", *others, "y", "x")


def _at_dates(
    dataset: xarray.Dataset, acquired: NDArray[np.datetime64], dates: NDArray[np.datetime64]
) -> xarray.Dataset:
    """The dataset, acquired on these days, at other dates, with any values where it lacks one; of its variables over
    time, only the bands."""
    frames = np.searchsorted(acquired, dates).clip(max=len(acquired) - 1)
    others = [
        name for name in dataset.variables if "time" in dataset[name].dims and name not in ("time", *S2_ALL_BANDS)
    ]
    chosen = dataset.drop_vars(others).isel(time=frames)
    times = dates.astype("datetime64[ns]")
    if chosen["time"].dtype.kind == "M":  # with the hour of the day where there is one
        times = np.where(acquired[frames] == dates, chosen["time"].values, times)
    return chosen.assign_coords(time=("time", times, dataset["time"].attrs))


def _band_meant(name: str) -> str | None:
    """The band that a name such as `B2`, `b02` or `B8a` means but is not; None for other names."""
    match = re.fullmatch(r"[Bb]0?(\d{1,2}|8[Aa])", name)
    band = f"B{match[1].upper():0>2}" if match else None
    return band if band in S2_ALL_BANDS and band != name else None


def _grid_mapping(properties: Mapping[Any, Any]) -> dict[Any, Any]:
    """The reference to the grid mapping among the attributes or the encoding of a band: rioxarray writes it to the
    latter, CF files have it in the former."""
    return {key: value for key, value in properties.items() if key == "grid_mapping"}


def _with_gaps_filled(band: xarray.DataArray, gaps: np.ndarray, stored: np.ndarray) -> xarray.DataArray:
    """The band with its gaps replaced by `stored` [T, H, W], reflectance × 10000, converted to the band's own encoding;
    all other values are unchanged."""
    ordered = band.transpose(*_DIMENSIONS)
    factor, offset = (float(each[0]) for each in scale_and_offset(ordered.attrs, 1, str(band.name)))
    is_integer = ordered.dtype.kind != "f"
    if is_integer and (factor, offset) == (1.0, 0.0):
        factor = 1 / REFLECTANCE_SCALE
    values = ordered.values.copy()
    filled = (stored[gaps].astype(np.float64) / REFLECTANCE_SCALE - offset) / factor
    packed = ordered.encoding.get("dtype")  # of the file that it was read from, and will be written to
    if is_integer:
        filled = _integers(filled, ordered.dtype, ordered.attrs, str(band.name))
    elif packed is not None and np.dtype(packed).kind in "iu":
        factor, offset = (float(each[0]) for each in scale_and_offset(ordered.encoding, 1, str(band.name)))
        numbers = (filled - offset) / factor
        whole = _integers(numbers, np.dtype(packed), ordered.encoding, str(band.name))
        filled = np.where(whole == np.rint(numbers), filled, whole * factor + offset)
    values[gaps] = filled
    return ordered.copy(data=values).transpose(*band.dims)


def _integers(
    numbers: NDArray[np.float64], dtype: np.dtype[Any], attributes: Mapping[Any, Any], where: str
) -> NDArray[np.int64]:
    """The nearest integers of a type, without those that mean no data: where 0 does, filled water would be a gap."""
    is_unsigned = str(attributes.get("_Unsigned")).lower() == "true"
    limits = np.iinfo(f"u{dtype.itemsize}" if is_unsigned else dtype)
    whole = np.rint(numbers).clip(limits.min, limits.max).astype(np.int64)
    fills = np.concatenate([attribute_numbers(attributes, name, where) for name in FILLS])
    return np.where(np.isin(whole, fills), np.where(whole == limits.max, whole - 1, whole + 1), whole)

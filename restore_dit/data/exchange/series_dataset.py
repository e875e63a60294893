"""A series as an `xarray.Dataset` that follows the CF conventions: the layout of the files of `netcdf`, and of what
`restore_dit.fill` takes.

Dimensions `time`, `y`, `x`. One variable per band (`B02`, …), int16 reflectance × 10000 with `scale_factor`; `clouds`
(0 clear, 1 thick, 2 thin, 3 shadow, 255 no data) or `gap_mask` (1: missing); radar as `S1A_VV`, `S1A_VH` with its own
dates `S1A_time`, int16 dB × 100; results also have `never_observed` over y and x, and `provenance`. Floating-point and
other integer types are accepted when reading. Indices such as `NDVI` are written but never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray
from numpy.typing import NDArray

from restore_dit.data.cubes.cf_values import scale_and_offset, stored_numbers
from restore_dit.data.cubes.georeference import georeference_of, grid_mapping, pixel_centres
from restore_dit.data.cubes.radar import radar_near
from restore_dit.data.cubes.times import acquisition_times
from restore_dit.data.stored_values import (
    index_to_stored,
    offset_remark,
    require_more_than_bytes,
    require_no_empty_pixels,
    require_reflectance,
    require_stored_backscatter,
    to_stored,
)
from restore_dit.errors import UserError
from restore_dit.series import (
    CLEAR,
    CLOUD_NO_DATA,
    DECIBEL_SCALE,
    INDEX_SCALE,
    NEVER_OBSERVED,
    NO_DATA,
    PROVENANCE,
    REFLECTANCE_SCALE,
    S1_BANDS,
    S2_ALL_BANDS,
    SAMPLES,
    SHADOW,
    SUSPECT,
    THICK_CLOUD,
    UNCERTAINTY,
    Acquisitions,
    Provenance,
    TileSeries,
)

_DAYS = {"units": "days since 1970-01-01", "calendar": "standard"}
DIMENSIONS = ("time", "y", "x")
"""Dimensions of a band and of a mask."""

SAMPLE_DIMENSIONS = ("sample", *DIMENSIONS)
"""Dimensions of the possible series of a band."""

CLOUD_CLASSES, GAP_MASK = "clouds", "gap_mask"
"""Names of the variables with masks."""

SEN2COR_MISSING = (0, 1, 3, 8, 9, 10, 11)
"""Classes of Sen2Cor's scene classification that hide the ground: no data, saturated, shadow, cloud (two), cirrus,
snow. The shipped mappings read them in the same way."""

PROVENANCE_FLAGS: dict[str, Any] = {
    "long_name": "what a value rests on",
    "flag_values": np.array(list(Provenance), np.uint8),
    "flag_meanings": " ".join(one.name.lower() for one in Provenance),
}
"""Attributes of the variable `provenance`, by the CF conventions."""

SUSPECT_FLAGS: dict[str, Any] = {
    "long_name": "counts as observed, but is probably cloud, haze or shadow that the mask missed",
    "flag_values": np.array([0, 1], np.uint8),
    "flag_meanings": "not_suspect suspect",
}
"""The same of the variable `suspect`."""


def dataset_of(
    series: TileSeries,
    gap_mask: NDArray[np.bool_] | None,
    attributes: Mapping[str, str],
    indices: Mapping[str, NDArray[np.floating]],
) -> xarray.Dataset:
    """The series as a CF dataset. Integers are stored unchanged, with scale and fill value as plain attributes, so that
    nothing is rounded by a conversion through floating point.

    Args:
        series: its layers `NEVER_OBSERVED`, `PROVENANCE`, `SUSPECT`, `UNCERTAINTY` and `SAMPLES` become variables, the
            last two per band (`B04_uncertainty`; `B04_samples` over sample, time, y, x).
        gap_mask: [T, H, W], true where a pixel was reconstructed; None if nothing was.
        attributes: provenance of the series, stored as attributes of the dataset.
        indices: indices computed from the bands, by name: [T, H, W] between -1 and 1.

    Raises:
        UserError: the grid is rotated relative to its CRS.
    """
    optical = series.optical
    reference = {"grid_mapping": "spatial_ref"} if series.georeference else {}

    def packed(scale: int, **more: str) -> dict[str, Any]:
        return {"scale_factor": 1 / scale, "_FillValue": NO_DATA, **reference, **more}

    variables: dict[str, tuple] = {
        band: (
            DIMENSIONS,
            optical.values[:, index],
            packed(REFLECTANCE_SCALE, units="1", long_name=f"reflectance {band}"),
        )
        for index, band in enumerate(optical.bands)
    }
    if UNCERTAINTY in series.layers:
        for index, band in enumerate(optical.bands):
            name = f"{band}_{UNCERTAINTY}"
            variables[band][2]["ancillary_variables"] = name
            described = packed(REFLECTANCE_SCALE, units="1", long_name=f"standard deviation of reconstructed {band}")
            variables[name] = (DIMENSIONS, series.layers[UNCERTAINTY][:, index], described)
    coordinates: dict[str, tuple] = {}
    if SAMPLES in series.layers:
        for index, band in enumerate(optical.bands):
            described = packed(REFLECTANCE_SCALE, units="1", long_name=f"possible series of {band}")
            drawn = series.layers[SAMPLES][:, :, index].swapaxes(0, 1)
            variables[f"{band}_{SAMPLES}"] = (SAMPLE_DIMENSIONS, drawn, described)
        members = np.arange(1, series.layers[SAMPLES].shape[1] + 1, dtype=np.int32)
        coordinates["sample"] = ("sample", members, {"standard_name": "realization"})
    for name, values in indices.items():
        variables[name] = (DIMENSIONS, index_to_stored(values), packed(INDEX_SCALE, units="1", long_name=name))
    coordinates["time"] = ("time", _days(optical.dates), {"standard_name": "time", "axis": "T", **_DAYS})
    if gap_mask is not None:
        flags = {"flag_values": np.array([0, 1], np.uint8), "flag_meanings": "observed reconstructed"}
        variables[GAP_MASK] = (DIMENSIONS, gap_mask.astype(np.uint8), {**flags, **reference})
    if NEVER_OBSERVED in series.layers:
        flags = {
            "flag_values": np.array([0, 1], np.uint8),
            "flag_meanings": "observed_on_some_date observed_on_no_date",
        }
        marks = series.layers[NEVER_OBSERVED].astype(np.uint8)
        variables[NEVER_OBSERVED] = (DIMENSIONS[1:], marks, {**flags, **reference})
    for name, flags in ((PROVENANCE, PROVENANCE_FLAGS), (SUSPECT, SUSPECT_FLAGS)):
        if name in series.layers:
            variables[name] = (DIMENSIONS, series.layers[name], {**flags, **reference})
    if series.clouds is not None:
        classes = np.array([CLEAR, THICK_CLOUD, 2, SHADOW, CLOUD_NO_DATA], np.uint8)
        flags = {"flag_values": classes, "flag_meanings": "clear thick_cloud thin_cloud shadow no_data"}
        variables[CLOUD_CLASSES] = (DIMENSIONS, series.clouds, {**flags, **reference})
    for track, radar in series.radar.items():
        time = f"{track}_time"
        coordinates[time] = (time, _days(radar.dates), {"standard_name": "time", **_DAYS})
        for index, band in enumerate(radar.bands):
            described = packed(DECIBEL_SCALE, units="dB", long_name=f"backscatter {band} of track {track}")
            variables[f"{track}_{band}"] = ((time, "y", "x"), radar.values[:, index], described)
    if series.georeference is not None:
        variables["spatial_ref"] = ((), np.int32(0), grid_mapping(series.georeference))
        coordinates |= pixel_centres(series.georeference, *series.size)
    title = {"Conventions": "CF-1.10", "tile": series.tile_id}
    return xarray.Dataset(variables, coordinates, {**attributes, **never_observed_count(series), **title})


def series_of(
    dataset: xarray.Dataset,
    name: str,
    masks: Sequence[str] = (CLOUD_CLASSES, GAP_MASK),
    *,
    needs_crs: bool = True,
) -> TileSeries:
    """The series in a dataset with the layout of such a file.

    Args:
        dataset: the layout's variables; others are not read.
        name: what errors call the dataset.
        masks: its variables with masks, any of which may be absent. All but `clouds` are of the kind of `gap_mask`.
        needs_crs: whether a dataset with coordinates but no CRS is refused; otherwise it has no georeference.

    Raises:
        UserError: dates are not strictly increasing, or a value is not a plausible reflectance.
    """
    bands = tuple(band for band in S2_ALL_BANDS if band in dataset.data_vars)
    dates = _dates(dataset, name, "time")
    clouds = _clouds(dataset, name, masks)
    masked = None if clouds is None else clouds != CLEAR
    # Masks first: saturated clouds exceed the limits of reflectance, which only matters where they are not hidden.
    values = np.stack([_stored(dataset, name, band, REFLECTANCE_SCALE, 3.2, masked) for band in bands], axis=1)
    require_reflectance(
        values,
        f"{name}:",
        "give reflectance as floating-point numbers, or integers of reflectance × 10000 or with `scale_factor`, and "
        "mark missing values by NaN or `_FillValue`",
    )
    observed = np.ones(values[:, 0].shape, bool) if masked is None else ~masked
    require_no_empty_pixels(values, observed, f"{name}:", "mark missing values by NaN, `_FillValue` or a mask")
    optical = Acquisitions(values, dates, bands)
    remarks = list(offset_remark(optical, f"{name}:", "subtract 0.1 from the reflectance, or 1000 from the integers"))
    return TileSeries(
        tile_id=_tile_id(dataset),
        optical=optical,
        clouds=clouds,
        radar=radar_near(_radar(dataset, name), dates, remarks, f"{name}: "),
        georeference=georeference_of(name, dataset, needs_crs=needs_crs),
        layers=_layers(dataset, name, bands),
        remarks=tuple(remarks),
    )


def _layers(dataset: xarray.Dataset, name: str, bands: tuple[str, ...]) -> dict[str, NDArray[np.integer]]:
    """A result's information about its pixels: which are observed on no date, what each value rests on, which are
    suspect, and the uncertainty of reconstructed ones."""
    layers: dict[str, NDArray[np.integer]] = {}
    if NEVER_OBSERVED in dataset:
        layers[NEVER_OBSERVED] = (dataset.variables[NEVER_OBSERVED].values == 1).astype(np.uint8)
    if SUSPECT in dataset:
        layers[SUSPECT] = (dataset.variables[SUSPECT].values == 1).astype(np.uint8)
    if PROVENANCE in dataset:
        codes = dataset.variables[PROVENANCE].values
        known = np.isin(codes, list(Provenance))
        layers[PROVENANCE] = np.where(known, codes, Provenance.UNKNOWN).astype(np.uint8)
    names = [f"{band}_{UNCERTAINTY}" for band in bands]
    if all(one in dataset for one in names):
        layers[UNCERTAINTY] = np.stack([_stored(dataset, name, one, REFLECTANCE_SCALE, limit=3.2) for one in names], 1)
    names = [f"{band}_{SAMPLES}" for band in bands]
    if all(one in dataset for one in names):
        of_bands = [_stored(dataset, name, one, REFLECTANCE_SCALE, limit=3.2) for one in names]
        layers[SAMPLES] = np.stack(of_bands, axis=2).swapaxes(0, 1)
    return layers


def _tile_id(dataset: xarray.Dataset) -> str:
    stated = str(dataset.attrs.get("tile", ""))
    allowed = [character for character in stated if (character.isascii() and character.isalnum()) or character in "._-"]
    return "".join(allowed).strip("._-")[:60] or "series"


def _days(dates: NDArray[np.datetime64]) -> NDArray[np.int32]:
    return dates.astype("datetime64[D]").astype(np.int64).astype(np.int32)


def _dates(dataset: xarray.Dataset, name: str, variable: str) -> NDArray[np.datetime64]:
    if variable not in dataset.variables:
        raise UserError(f"{name}: no variable {variable} with the dates")
    dates = acquisition_times(dataset, name, variable).astype("datetime64[D]")
    if not (np.diff(dates) > np.timedelta64(0, "D")).all():
        raise UserError(
            f"{name}: the dates of {variable} must be strictly increasing, one image per day: sort or merge them"
        )
    return dates


def _stored(
    dataset: xarray.Dataset,
    name: str,
    variable: str,
    scale: int,
    limit: float,
    masked: NDArray[np.bool_] | None = None,
) -> NDArray[np.int16]:
    """The variable as int16 in steps of 1/scale, `NO_DATA` where missing. Integers without a scale are taken as such
    steps, floating-point numbers as the quantity itself."""
    array, where = dataset.variables[variable], f"{name}: {variable}"
    if array.dtype.kind not in "iuf":
        raise UserError(f"{where} has the type {array.dtype}: convert it to float32 or int16")
    require_more_than_bytes(array.dtype, "scale_factor" in array.attrs, where)
    raw, missing = stored_numbers(array.values, array.attrs, where)
    factor, offset = scale_and_offset(array.attrs, 1, where)
    return to_stored(raw, missing, float(factor[0]), float(offset[0]), scale, limit, where, masked)


def _clouds(dataset: xarray.Dataset, name: str, masks: Sequence[str]) -> NDArray[np.uint8] | None:
    """The union of the masks: a pixel that any of them lacks, or marks as missing, is missing. None without masks."""
    clouds: NDArray[np.uint8] | None = None
    for variable in masks:
        if variable not in dataset.variables:
            continue
        most, allowed = (SHADOW, "0 to 3 and 255") if variable == CLOUD_CLASSES else (THICK_CLOUD, "0 and 1")
        array = dataset.variables[variable]
        values, unknown = stored_numbers(array.values, array.attrs, f"{name}: {variable}")
        # A mask derived from a classification often inherits its `nodata=0` or `_FillValue=0`, but 0 means clear here.
        unknown &= values != CLEAR
        if CLEAR in (
            array.encoding.get("_FillValue"),
            array.encoding.get("missing_value"),
        ):  # xarray has read it as NaN
            values, unknown = np.where(unknown & np.isnan(values), CLEAR, values), unknown & ~np.isnan(values)
        if variable == CLOUD_CLASSES:
            unknown = unknown | (values == CLOUD_NO_DATA)
        values = np.where(unknown, CLOUD_NO_DATA, values)
        # A probability or a class number, read as a mask, would hide the wrong pixels without an error.
        strange = ~(unknown | ((values >= 0) & (values <= most) & (values == np.rint(values))))
        if strange.any():
            first = values[strange][0]
            hint = f".isin({list(SEN2COR_MISSING)}) of Sen2Cor's classes" if first == np.rint(first) else " > 0.4"
            raise UserError(
                f"{name}: {variable} has the value {first:g}, but a mask's values are {allowed}: first make a mask of "
                "the scene classification or probability, true where a pixel is missing, such as "
                f"{variable}{hint}"
            )
        classes = values.astype(np.uint8)
        clouds = classes if clouds is None else np.where(clouds == CLEAR, classes, clouds)
    return clouds


def _radar(dataset: xarray.Dataset, name: str) -> dict[str, Acquisitions]:
    tracks = {}
    for track in tracks_in(map(str, dataset.data_vars)):
        lacking = [f"{track}_{band}" for band in S1_BANDS if f"{track}_{band}" not in dataset.variables]
        if lacking:
            raise UserError(f"{name}: radar track {track} lacks {lacking[0]}")
        dates = _dates(dataset, name, f"{track}_time")
        values = [_stored(dataset, name, f"{track}_{band}", DECIBEL_SCALE, limit=320) for band in S1_BANDS]
        tracks[track] = Acquisitions(np.stack(values, axis=1), dates, S1_BANDS)
        require_stored_backscatter(tracks[track], f"{name}: {track}_VH")
    return tracks


def tracks_in(variables: Iterable[str]) -> list[str]:
    """The radar tracks that variables of these names hold: `S1A` if there is `S1A_VV`."""
    ending = f"_{S1_BANDS[0]}"
    return [variable.removesuffix(ending) for variable in variables if variable.endswith(ending)]


def without_radar(series: TileSeries) -> TileSeries:
    """The series without its radar."""
    return replace(series, radar={})


def never_observed_count(series: TileSeries) -> dict[str, str]:
    """A result's attribute with the number of pixels observed on no date; empty if that was not determined."""
    return {"NEVER_OBSERVED": str(int(series.layers[NEVER_OBSERVED].sum()))} if NEVER_OBSERVED in series.layers else {}

"""The optical files of a site as one reflectance series on one grid, with cloud masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from restore_dit.config.cube_mapping import CloudProbability, CubeMapping, OpticalProduct, baseline_number
from restore_dit.data.cubes.acquisition_merge import merge_days_and_masks
from restore_dit.data.cubes.cf_values import among
from restore_dit.data.cubes.cube_file import CubeFile
from restore_dit.data.cubes.grid import Placement, resample, resample_classes
from restore_dit.data.cubes.times import repeated_apart
from restore_dit.data.store.masks import CLOUD_CLASSES, SOURCE
from restore_dit.data.stored_values import offset_remark, require_reflectance, stored_integers, within_range
from restore_dit.errors import UserError
from restore_dit.series import CLEAR, CLOUD_NO_DATA, NO_DATA, REFLECTANCE_SCALE, S2_ALL_BANDS, THICK_CLOUD, Acquisitions

S2CLOUDLESS = "s2cloudless"
"""Name of the mask method based on cloud probability."""

_UNSAID = ("", "nan", "None")
"""How files represent a missing processing baseline."""

_LARGEST = np.iinfo(np.int16).max / REFLECTANCE_SCALE


@dataclass(frozen=True)
class OpticalFile:
    """A file with the product it belongs to, and where its images lie."""

    product: OpticalProduct
    file: CubeFile
    placement: Placement


def read_optical(
    optical: Sequence[OpticalFile], grid: GeoBox, mapping: CubeMapping, remarks: list[str]
) -> tuple[Acquisitions, NDArray[np.uint8] | None, dict[str, NDArray[np.uint8]]]:
    """All bands of all files on one grid, masks from the scene classification, and masks by other methods.

    Files are joined by time; what a file lacks has no data. Where several files contain the same pixel of the same
    acquisition, the first with data is used. Acquisitions without any data are left out. For several images on one day,
    each pixel keeps the masks of the image that it comes from, which is the clear one according to the classification,
    or according to the other method's masks if there is no classification. A line is added to `remarks` if values
    exceed the range of a series, dates are left out, or an offset was probably left in.

    Raises:
        UserError: a missing or damaged variable, an unknown class, or values that cannot be reflectance.
    """
    bands = tuple(band for band in S2_ALL_BANDS if any(band in entry.product.bands for entry in optical))
    times_of = [repeated_apart(entry.file.times) for entry in optical]
    times = np.unique(np.concatenate(times_of))
    values = np.full((len(times), len(bands), *grid.shape), NO_DATA, np.int16)
    products = [entry.product for entry in optical]
    unknown = np.broadcast_to(np.uint8(CLOUD_NO_DATA), (len(times), *grid.shape))
    masks: dict[str, NDArray[np.uint8]] = {}  # by method; the first one decides between images of a day
    if any(product.classification for product in products):
        masks[SOURCE] = unknown.copy()
    if any(product.cloud_probability for product in products):
        masks[S2CLOUDLESS] = unknown.copy()
    beyond = 0  # number of values outside the range of int16
    for entry, own_times in zip(optical, times_of, strict=True):
        # Files of one site may hold different dates: each image goes where its own time lies in the union.
        at = np.searchsorted(times, own_times)
        offset = acquisition_offsets(entry.product, entry.file)
        for band, label in entry.product.bands.items():
            reflectance = entry.file.physical(label, entry.product, offset)
            # Before resampling, so that a value out of range does not spread to the pixels around it.
            held = within_range(reflectance, REFLECTANCE_SCALE)
            beyond += int((np.isnan(held) & ~np.isnan(reflectance)).sum())
            resampled = resample(held, entry.placement, grid, entry.product.resampling)
            images = stored_integers(resampled, REFLECTANCE_SCALE)
            # Another file may already have contributed a part of the same acquisition.
            earlier = values[at, bands.index(band)]
            values[at, bands.index(band)] = np.where(earlier == NO_DATA, images, earlier)
        of_file: dict[str, NDArray[np.uint8]] = {}
        if entry.product.classification:
            of_file[SOURCE] = _cloud_classes(entry, entry.product.classification, mapping)
        if entry.product.cloud_probability:
            of_file[S2CLOUDLESS] = _probable_clouds(entry, entry.product.cloud_probability)
        for method, stored in of_file.items():
            classes = resample_classes(stored, entry.placement, grid, CLOUD_NO_DATA)
            earlier_classes = masks[method][at]
            masks[method][at] = np.where(earlier_classes == CLOUD_NO_DATA, classes, earlier_classes)
    _require_reflectance(values, beyond, optical[0].file.uri)
    if beyond:
        remarks.append(
            f"{optical[0].file.uri}: {beyond} values of the site exceed a reflectance of ±{_LARGEST:.4f}, the range of "
            "a series: they count as no data"
        )
    merged, dates, merged_masks = merge_days_and_masks(values, times, list(masks.values()))
    # A cube shared by radar and optical has empty optical images on the radar's dates.
    seen = (merged != NO_DATA).any(axis=(1, 2, 3))
    if not seen.all():
        remarks.append(f"{optical[0].file.uri}: {(~seen).sum()} of {len(seen)} dates have no optical data: left out")
    merged, dates = merged[seen], dates[seen]
    nothing = (merged == NO_DATA).all(axis=1)
    others = {
        method: np.where(nothing, np.uint8(CLOUD_NO_DATA), mask[seen])
        for method, mask in zip(masks, merged_masks, strict=True)
    }
    acquisitions = Acquisitions(merged, dates, bands)
    remarks += offset_remark(
        acquisitions, f"{optical[0].file.uri}:", "set `offset` or `offsets` of the mapping to -0.1"
    )
    return acquisitions, others.pop(SOURCE, None), others


def acquisition_offsets(product: OpticalProduct, file: CubeFile) -> NDArray[np.float64]:
    """The offset of each acquisition [T]: that of the last of `offsets` whose condition holds, otherwise the product's.

    Raises:
        UserError: the file does not state the processing baseline, and no date is given to decide instead.
    """
    offsets = np.full(len(file.times), product.offset)
    baselines = _baselines(product, file)
    for change in product.offsets:
        holds = np.zeros(len(offsets), bool)
        if change.since is not None:
            holds = file.times.astype("datetime64[D]") >= np.datetime64(change.since, "D")
        if change.since_baseline is not None:
            holds = np.where(np.isnan(baselines), holds, baselines >= change.since_baseline)
        offsets[holds] = change.offset
    return offsets


def _baselines(product: OpticalProduct, file: CubeFile) -> NDArray[np.float64]:
    """The processing baseline of each acquisition [T], NaN where the file states none and a date can decide instead."""
    needed = any(change.since is None for change in product.offsets)
    if product.baseline is None or not (needed or file.says(product.baseline)):
        return np.full(len(file.times), np.nan)
    texts = file.of_each_acquisition(product.baseline)
    try:
        return np.array([np.nan if text in _UNSAID and not needed else baseline_number(text) for text in texts])
    except ValueError as error:
        raise UserError(f"{file.uri}: {product.baseline}: {error}: fix the file or the mapping's baseline") from None


def _probable_clouds(entry: OpticalFile, probability: CloudProbability) -> NDArray[np.uint8]:
    stored, missing = entry.file.stored(probability.variable, entry.product)
    clouds = np.where(stored >= probability.cloud_from, THICK_CLOUD, CLEAR).astype(np.uint8)
    clouds[missing | among(stored, np.array(probability.no_data))] = CLOUD_NO_DATA
    return clouds


def _cloud_classes(entry: OpticalFile, label: str, mapping: CubeMapping) -> NDArray[np.uint8]:
    scene, missing = entry.file.stored(label, entry.product)
    clouds = np.full(scene.shape, CLOUD_NO_DATA, np.uint8)
    known = missing.copy()
    for value, name in mapping.classes.items():
        here = scene == value
        clouds[here] = CLOUD_CLASSES[name]
        known |= here
    if not known.all():
        unknown = ", ".join(f"{value:g}" for value in np.unique(scene[~known])[:5])
        raise UserError(
            f"{entry.file.uri}: {label} contains class {unknown}, which the mapping's `classes` do not list: add it "
            "(as no_data if its meaning is unknown)"
        )
    return clouds


def _require_reflectance(values: NDArray[np.int16], beyond: int, uri: str) -> None:
    known = values[values != NO_DATA]
    if not known.size and not beyond:
        raise UserError(
            f"{uri}: no pixel of any optical band has data: check no_data and no_data_at_or_below of the mapping, or "
            "download the site again"
        )
    advice = "correct scale, offset and no_data of the mapping (reflectance × 10000 has scale 1.0e-4)"
    if known.size <= beyond:
        raise UserError(f"{uri}: has a median reflectance of {_LARGEST:.3g} or more, which is implausible: {advice}")
    require_reflectance(values, uri + ":", advice)

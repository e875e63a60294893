"""The optical files of a site as one series of reflectance on one grid, with cloud masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from restore_dit.config.cube_mapping import CloudProbability, CubeMapping, OpticalProduct, baseline_number
from restore_dit.data.cubes.acquisition_merge import merge_days_and_masks
from restore_dit.data.cubes.cube_file import CubeFile
from restore_dit.data.cubes.grid import Placement, resample, resample_classes
from restore_dit.data.cubes.stored_units import stored_integers
from restore_dit.data.cubes.times import repeated_apart
from restore_dit.data.store.masks import CLOUD_CLASSES, SOURCE
from restore_dit.errors import UserError
from restore_dit.series import CLEAR, CLOUD_NO_DATA, NO_DATA, REFLECTANCE_SCALE, S2_ALL_BANDS, THICK_CLOUD, Acquisitions

S2CLOUDLESS = "s2cloudless"
"""The method of masks by cloud probability."""

_IMPLAUSIBLE = (-0.1, 2.0)
"""Outside of these no series of land and cloud has its median reflectance."""


@dataclass(frozen=True)
class OpticalFile:
    """A file with the product it belongs to, and where its images lie."""

    product: OpticalProduct
    file: CubeFile
    placement: Placement


def read_optical(
    optical: Sequence[OpticalFile], grid: GeoBox, mapping: CubeMapping
) -> tuple[Acquisitions, NDArray[np.uint8] | None, dict[str, NDArray[np.uint8]]]:
    """All bands of all files on one grid, masks by the scene classification, and masks by other methods; files join on
    their times, and what a file lacks has no data. Where several files hold the same pixel of the same acquisition, the
    first that has data there holds. Acquisitions without a single pixel of data are left out. Of a day's several images
    each pixel keeps the masks of the image that it comes from, by the classification the clear one; where there is
    none, the other method's masks say which is clear.

    Raises:
        UserError: a missing or damaged variable, an unknown class, or values that cannot be reflectance.
    """
    bands = tuple(band for band in S2_ALL_BANDS if any(band in entry.product.bands for entry in optical))
    times_of = [repeated_apart(entry.file.times) for entry in optical]
    times = np.unique(np.concatenate(times_of))
    values = np.full((len(times), len(bands), *grid.shape), NO_DATA, np.int16)
    products = [entry.product for entry in optical]
    unknown = np.broadcast_to(np.uint8(CLOUD_NO_DATA), (len(times), *grid.shape))
    masks: dict[str, NDArray[np.uint8]] = {}  # by method; the first one chooses between images of a day
    if any(product.classification for product in products):
        masks[SOURCE] = unknown.copy()
    if any(product.cloud_probability for product in products):
        masks[S2CLOUDLESS] = unknown.copy()
    for entry, own_times in zip(optical, times_of, strict=True):
        at = np.searchsorted(times, own_times)
        offset = acquisition_offsets(entry.product, entry.file)
        for band, label in entry.product.bands.items():
            reflectance = entry.file.physical(label, entry.product, offset)
            resampled = resample(reflectance, entry.placement, grid, entry.product.resampling)
            images = stored_integers(resampled, REFLECTANCE_SCALE)
            # Another file may have held a part of the same acquisition.
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
    _require_reflectance(values, optical[0].file.uri)
    merged, dates, merged_masks = merge_days_and_masks(values, times, list(masks.values()))
    # A cube that radar and optical share has images without a single pixel on the other's dates.
    seen = (merged != NO_DATA).any(axis=(1, 2, 3))
    merged, dates = merged[seen], dates[seen]
    nothing = (merged == NO_DATA).all(axis=1)
    others = {
        method: np.where(nothing, np.uint8(CLOUD_NO_DATA), mask[seen])
        for method, mask in zip(masks, merged_masks, strict=True)
    }
    return Acquisitions(merged, dates, bands), others.pop(SOURCE, None), others


def acquisition_offsets(product: OpticalProduct, file: CubeFile) -> NDArray[np.float64]:
    """The offset of each acquisition [T]: the product's, or that of the last of `offsets` whose condition holds.

    Raises:
        UserError: the file does not say the processing baseline that `offsets` ask for.
    """
    offsets = np.full(len(file.times), product.offset)
    baselines = _baselines(product.baseline, file) if product.baseline is not None else None
    for change in product.offsets:
        if change.since is not None:
            offsets[file.times.astype("datetime64[D]") >= np.datetime64(change.since, "D")] = change.offset
        elif baselines is not None and change.since_baseline is not None:
            offsets[baselines >= change.since_baseline] = change.offset
    return offsets


def _baselines(variable: str, file: CubeFile) -> NDArray[np.float64]:
    try:
        return np.array([baseline_number(text) for text in file.of_each_acquisition(variable)])
    except ValueError as error:
        raise UserError(f"{file.uri}: {variable}: {error}: mend the file or the mapping's baseline") from None


def _probable_clouds(entry: OpticalFile, probability: CloudProbability) -> NDArray[np.uint8]:
    stored, missing = entry.file.stored(probability.variable, entry.product)
    clouds = np.where(stored >= probability.cloud_from, THICK_CLOUD, CLEAR).astype(np.uint8)
    clouds[missing | np.isnan(stored) | np.isin(stored, probability.no_data)] = CLOUD_NO_DATA
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
            f"{entry.file.uri}: {label} holds class {unknown}, which the mapping's `classes` do not list: add it, as "
            "no_data if nobody knows what it is"
        )
    return clouds


def _require_reflectance(values: NDArray[np.int16], uri: str) -> None:
    known = values[values != NO_DATA]
    if not known.size:
        raise UserError(
            f"{uri}: no pixel of any optical band has data: check no_data and no_data_at_or_below of the mapping, or "
            "fetch the site again"
        )
    median = float(np.median(known)) / REFLECTANCE_SCALE
    if not _IMPLAUSIBLE[0] <= median <= _IMPLAUSIBLE[1]:
        raise UserError(
            f"{uri}: reads as a reflectance of {median:.3g} in the median, which no land has: correct scale and offset "
            "of the mapping (stored reflectance × 10000 has scale 1.0e-4)"
        )

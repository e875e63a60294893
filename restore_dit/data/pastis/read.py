"""Reads one patch of PASTIS-R as a tile series, with checks of everything that can be wrong with it.

Also fits the affine transform to its footprint in Lambert-93. Pixels are squares of 10 m in the UTM zone of their
Sentinel-2 tile. In Lambert-93, a patch is a quadrilateral rotated by up to 5° and stretched by up to 0.1 %; over 1280 m
an affine transform approximates it to within centimetres.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore_dit.config.ingestion import PastisConfig
from restore_dit.data.cubes.acquisition_merge import merge_days
from restore_dit.data.pastis.files import SourceFile
from restore_dit.data.pastis.layout import (
    CRS,
    PIXEL,
    Sensor,
    cloud_file,
    data_file,
    labels_file,
    parcel_ids_file,
    read_npy,
)
from restore_dit.data.pastis.metadata import Patch
from restore_dit.errors import UserError
from restore_dit.series import (
    CLOUD_NO_DATA,
    DECIBEL_SCALE,
    NO_DATA,
    RADAR_CHANNELS,
    S1_BANDS,
    S2_BANDS,
    SHADOW,
    Acquisitions,
    Georeference,
    TileSeries,
)

_LARGEST_DECIBEL = 300.0


@dataclass(frozen=True)
class PatchSource:
    """The sources of one patch: its metadata, its files by name, and its bad frames if there is a list."""

    patch: Patch
    files: Mapping[str, SourceFile]
    bad_frames: Sequence[int] | None


def read_patch(source: PatchSource, config: PastisConfig) -> TileSeries:
    """The patch as a tile.

    Frames are sorted by date; several frames of one day are merged. Layers: `labels` uint8 [3, H, W], `parcel_ids`
    int32 [H, W], `bad_frames` uint8 [T] with 1 for a bad frame.

    Raises:
        UserError: the patch is faulty; the message names the file and the fault.
        SourceUnreachable: the source as a whole cannot be read.
    """
    patch = source.patch
    fold = patch.fold
    values, dates = _optical(source, config)
    clouds = _clouds(source, len(values), values.shape[2:])
    merged, days, merged_clouds = merge_days(values, dates, clouds)
    if merged_clouds is not None:
        merged_clouds[(merged == NO_DATA).all(axis=1)] = CLOUD_NO_DATA
    size = (merged.shape[2], merged.shape[3])
    footprint = fit_footprint(patch.ring, size)
    return TileSeries(
        tile_id=patch.patch,
        optical=Acquisitions(merged, days, S2_BANDS),
        clouds=merged_clouds,
        radar={track: _radar(source, track, size, config) for track in config.radar},
        georeference=footprint.georeference,
        properties=_properties(patch, fold, footprint),
        layers=_layers(source, size, dates, days, config),
    )


def _properties(patch: Patch, fold: int, footprint: Footprint) -> dict[str, str | int | float]:
    properties: dict[str, str | int | float] = {"source": "PASTIS-R", "fold": fold, "footprint": footprint.polygon}
    if footprint.georeference is not None:
        properties["footprint_residual"] = round(footprint.residual, 3)
    for name, key, kind in (
        ("tile", "TILE", str),
        ("parcels", "N_Parcel", int),
        ("parcel_cover", "Parcel_Cover", float),
    ):
        value = patch.properties.get(key)
        if isinstance(value, kind) and not (isinstance(value, float) and not math.isfinite(value)):
            properties[name] = value
    return properties


def _read(source: PatchSource, name: str) -> NDArray[Any]:
    file = source.files.get(name)
    if file is None:
        raise UserError(f"{name}: missing; fetch it again")
    return read_npy(file.read(), name)


def _optical(source: PatchSource, config: PastisConfig) -> tuple[NDArray[np.int16], NDArray[np.datetime64]]:
    """Values int16 [N, 10, H, W], `NO_DATA` where missing, and dates [N], in file order."""
    name = data_file("S2", source.patch.patch)
    dates = source.patch.dates("S2")
    values = _read(source, name)
    if values.dtype.kind != "i" or values.dtype.itemsize != 2:
        raise UserError(f"{name}: {values.dtype} instead of int16; fetch the published file")
    _check_series(name, values, len(dates), len(S2_BANDS), "S2")
    side = config.patch_size
    if side is not None and values.shape[2:] != (side, side):
        raise UserError(
            f"{name}: {_by(values.shape[2:])} pixels instead of {_by((side, side))}; fetch it again, or set "
            "patch_size=N"
        )
    stored = values.astype(np.int16)
    stored[stored <= config.no_data_at_or_below] = NO_DATA
    return stored, dates


def _radar(source: PatchSource, track: Sensor, size: tuple[int, int], config: PastisConfig) -> Acquisitions:
    """The track's VV and VH in 0.01 dB; the third channel must be their difference."""
    name = data_file(track, source.patch.patch)
    if name not in source.files:
        raise UserError(f"{name}: missing: a patch without radar; fetch it, or leave the track out (--radar)")
    dates = source.patch.dates(track)
    values = _read(source, name)
    if values.dtype.kind != "f":
        raise UserError(f"{name}: {values.dtype} instead of float; fetch the published file")
    _check_series(name, values, len(dates), len(RADAR_CHANNELS), track)
    if values.shape[2:] != size:
        raise UserError(f"{name}: {_by(values.shape[2:])} pixels, but optical has {_by(size)}; fetch both again")
    stored = np.empty((len(values), len(S1_BANDS), *size), np.int16)
    missing = 0
    for index, frame in enumerate(values):
        decibel = frame.astype(np.float32)
        known = np.isfinite(decibel).all(axis=0)
        missing += int((~known).sum())
        decibel[:, ~known] = 0
        if np.abs(decibel).max(initial=0) > _LARGEST_DECIBEL:
            raise UserError(
                f"{name}: {np.abs(decibel).max():.6g} in frame {index} is not a backscatter in dB; fetch it again"
            )
        if config.ratio_tolerance is not None:
            _check_ratio(name, index, decibel, values.dtype, config.ratio_tolerance)
        stored[index] = np.where(known, np.rint(decibel[:2] * DECIBEL_SCALE).astype(np.int16), NO_DATA)
    if missing and config.radar_nan == "quarantine":
        raise UserError(
            f"{name}: {missing} of {stored[:, 0].size} pixels are NaN or infinite; fetch it again, or treat them as no "
            "data with radar_nan=no_data"
        )
    merged, days, _ = merge_days(stored, dates)
    return Acquisitions(merged, days, S1_BANDS)


def _check_ratio(name: str, index: int, decibel: NDArray[np.float32], dtype: np.dtype[Any], tolerance: float) -> None:
    """Checks that the third channel is VV − VH, up to `tolerance` and the rounding of the three channels to `dtype`."""
    vv, vh, ratio = decibel
    rounding = np.finfo(dtype).eps * (np.abs(vv) + np.abs(vh) + np.abs(ratio))
    excess = np.abs(vv - vh - ratio) - rounding
    if excess.max(initial=0) > tolerance:
        raise UserError(
            f"{name}: the third channel differs from VV - VH by up to {np.abs(vv - vh - ratio).max():.3g} dB (frame "
            f"{index}): channels mixed up? If it is known to be right, set ratio_tolerance=null"
        )


def _check_series(name: str, values: NDArray[Any], dates: int, channels: int, sensor: Sensor) -> None:
    if values.ndim != 4 or 0 in values.shape[2:]:
        raise UserError(f"{name}: shape {_by(values.shape)} instead of T×{channels}×H×W; fetch it again")
    if len(values) != dates:
        raise UserError(f"{name}: {len(values)} frames, but dates-{sensor} has {dates}; fetch both again")
    if values.shape[1] != channels:
        raise UserError(f"{name}: {values.shape[1]} bands instead of {channels}; fetch the published file")


def _clouds(source: PatchSource, frames: int, size: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The masks uint8 [N, H, W], or None if there are none."""
    name = cloud_file(source.patch.patch)
    if name not in source.files:
        return None
    masks = _read(source, name)
    if masks.shape != (frames, 1, *size):
        raise UserError(
            f"{name}: shape {_by(masks.shape)} instead of {_by((frames, 1, *size))}; create the masks again"
        )
    if masks.dtype.kind not in "iu":
        raise UserError(f"{name}: {masks.dtype} instead of int8; create the masks again")
    if masks.size and (masks.min() < 0 or masks.max() > SHADOW):
        wrong = masks[(masks < 0) | (masks > SHADOW)].flat[0]
        raise UserError(
            f"{name}: class {wrong} is unknown (0 clear, 1 thick, 2 thin, 3 shadow); create the masks again"
        )
    return masks[:, 0].astype(np.uint8)


def _layers(
    source: PatchSource,
    size: tuple[int, int],
    dates: NDArray[np.datetime64],
    days: NDArray[np.datetime64],
    config: PastisConfig,
) -> dict[str, NDArray[np.integer]]:
    layers: dict[str, NDArray[np.integer]] = {}
    patch = source.patch.patch
    if config.annotations:
        layers["labels"] = _annotation(source, labels_file(patch), (3, *size), np.dtype(np.uint8))
        layers["parcel_ids"] = _annotation(source, parcel_ids_file(patch), size, np.dtype(np.int32))
    if source.bad_frames is not None:
        outside = [frame for frame in source.bad_frames if not 0 <= frame < len(dates)]
        if outside:
            raise UserError(
                f"bad_frames.json: patch {patch} has no frame {outside[0]}, only 0 to {len(dates) - 1}; use the list "
                "that belongs to this data"
            )
        layers["bad_frames"] = np.isin(days, dates[list(source.bad_frames)]).astype(np.uint8)
    return layers


def _annotation(source: PatchSource, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[np.integer]:
    values = _read(source, name)
    if values.dtype.kind not in "iu":
        raise UserError(f"{name}: {values.dtype} instead of {dtype}; fetch the published file")
    if values.shape != shape:
        raise UserError(f"{name}: shape {_by(values.shape)} instead of {_by(shape)}; fetch it again")
    limits = np.iinfo(dtype)
    if values.min() < limits.min or values.max() > limits.max:
        raise UserError(f"{name}: values outside the range of {dtype}; fetch the published file")
    return values.astype(dtype)


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


_LARGEST_RESIDUAL = 0.5 * PIXEL
_LARGEST_STRETCH = 0.02


@dataclass(frozen=True)
class Footprint:
    """`georeference` of the patch's pixels, None if the footprint is not that of such a square; `residual` is the
    largest distance in metres between a corner of the footprint and the corresponding corner of the grid; `polygon` is
    the footprint as WKT."""

    georeference: Georeference | None
    residual: float
    polygon: str


def fit_footprint(ring: NDArray[np.float64], size: tuple[int, int]) -> Footprint:
    """The least-squares affine transform from the grid's corners to the footprint's.

    Args:
        ring: [n, 2] easting and northing in metres, closed or not, in any order and direction; may be empty.
        size: (H, W) of the patch in pixels.
    """
    polygon = _well_known_text(ring)
    if len(np.unique(ring, axis=0)) < 4:
        return Footprint(None, float("nan"), polygon)
    height, width = size
    # Rotated by only a few degrees, so each corner is the ring's farthest point in its diagonal direction.
    directions = np.array([(-1, 1), (1, 1), (1, -1), (-1, -1)])  # upper left, upper right, lower right, lower left
    corners = ring[np.argmax(ring @ directions.T, axis=0)]
    grid = np.array([(0, 0, 1), (width, 0, 1), (width, height, 1), (0, height, 1)], np.float64)
    centre = corners.mean(axis=0)
    coefficients, *_ = np.linalg.lstsq(grid, corners - centre, rcond=None)
    residual = float(np.linalg.norm(grid @ coefficients + centre - corners, axis=1).max())
    sides = np.linalg.norm(coefficients[:2], axis=1)
    if residual > _LARGEST_RESIDUAL or np.abs(sides / PIXEL - 1).max() > _LARGEST_STRETCH:
        return Footprint(None, residual, polygon)
    (a, d), (b, e), (c, f) = coefficients
    transform = (float(a), float(b), float(c + centre[0]), float(d), float(e), float(f + centre[1]))
    return Footprint(Georeference(CRS, transform), residual, polygon)


def _well_known_text(ring: NDArray[np.float64]) -> str:
    if not len(ring):
        return "POLYGON EMPTY"
    return "POLYGON ((" + ", ".join(f"{x:.3f} {y:.3f}" for x, y in ring) + "))"

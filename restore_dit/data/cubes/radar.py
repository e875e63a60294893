"""The radar files of a site as one series a track, in dB, on one grid."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from restore_dit.config.cube_mapping import RadarProduct
from restore_dit.data.cubes.acquisition_merge import merge_days
from restore_dit.data.cubes.cube_file import CubeFile
from restore_dit.data.cubes.grid import Placement, resample
from restore_dit.data.cubes.stored_units import stored_integers
from restore_dit.errors import UserError
from restore_dit.series import DECIBEL_SCALE, NO_DATA, S1_BANDS, Acquisitions

_IMPLAUSIBLE = (-50.0, -0.5)
"""dB outside of which no land has its median backscatter across polarisations."""


@dataclass(frozen=True)
class RadarFile:
    """A file with the product it belongs to, and where its images lie."""

    product: RadarProduct
    file: CubeFile
    placement: Placement


def read_radar(radar: Sequence[RadarFile], grid: GeoBox) -> dict[str, Acquisitions]:
    """Track → its series. Acquisitions without a single pixel of data are left out, and tracks without any.

    Raises:
        UserError: a missing or damaged variable, an orbit without a name, or values that cannot be backscatter.
    """
    parts: dict[str, list[tuple[NDArray[np.int16], NDArray[np.datetime64]]]] = {}
    for entry in radar:
        images = np.stack([_band(entry, band, grid) for band in S1_BANDS], axis=1)
        _require_backscatter(images[:, S1_BANDS.index("VH")], entry)
        tracks = np.array(acquisition_tracks(entry.product, entry.file))
        for track in np.unique(tracks):
            parts.setdefault(str(track), []).append((images[tracks == track], entry.file.times[tracks == track]))
    series = {}
    for track, pieces in sorted(parts.items()):
        values, dates, _ = merge_days(*(np.concatenate(arrays) for arrays in zip(*pieces, strict=True)))
        seen = (values != NO_DATA).any(axis=(1, 2, 3))
        if seen.any():
            series[track] = Acquisitions(values[seen], dates[seen], S1_BANDS)
    return series


def acquisition_tracks(product: RadarProduct, file: CubeFile) -> list[str]:
    """The track of each acquisition [T].

    Raises:
        UserError: the file does not say the orbit, or one that the mapping does not name.
    """
    if isinstance(product.track, str):
        return [product.track] * len(file.times)
    variable, names = product.track.variable, product.track.names
    orbits = file.of_each_acquisition(variable)
    if not names:
        return [f"S1-{re.sub(r'[^A-Za-z0-9._-]+', '-', orbit)}" for orbit in orbits]
    unknown = sorted(set(orbits) - set(names))
    if unknown:
        raise UserError(f"{file.uri}: {variable} {unknown[0]!r} is not in track.names of the mapping: add it")
    return [names[orbit] for orbit in orbits]


def _band(entry: RadarFile, band: str, grid: GeoBox) -> NDArray[np.int16]:
    """dB × 100 [T, H, W]. What is finer than the grid is averaged in linear power, in which speckle adds up."""
    values = entry.file.physical(entry.product.bands[band], entry.product).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if entry.product.unit == "db":
            power = 10 ** (values / 10)
        else:
            positive = np.where(values > 0, values, np.nan)  # neither the border of a swath nor removed noise is land
            power = positive**2 if entry.product.unit == "amplitude" else positive
        decibel = 10 * np.log10(resample(power, entry.placement, grid, "nearest"))
    return stored_integers(np.where(np.isfinite(decibel), decibel, np.nan), DECIBEL_SCALE)


def _require_backscatter(images: NDArray[np.int16], entry: RadarFile) -> None:
    known = images[images != NO_DATA]
    if not known.size:
        return
    median = float(np.median(known)) / DECIBEL_SCALE
    if not _IMPLAUSIBLE[0] <= median <= _IMPLAUSIBLE[1]:
        raise UserError(
            f"{entry.file.uri}: VH reads as {median:.3g} dB in the median, which no land has: correct unit, scale and "
            f"offset of the mapping (it says unit {entry.product.unit})"
        )

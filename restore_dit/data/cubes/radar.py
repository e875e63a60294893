"""The radar files of a site as one series per track, in dB, on one grid."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from restore_dit.config.cube_mapping import RadarProduct
from restore_dit.data.cubes.acquisition_merge import merge_days
from restore_dit.data.cubes.cube_file import CubeFile
from restore_dit.data.cubes.grid import Placement, resample
from restore_dit.data.stored_values import require_backscatter, stored_integers, within_range
from restore_dit.errors import UserError
from restore_dit.series import DECIBEL_SCALE, NO_DATA, S1_BANDS, Acquisitions

_APART = np.timedelta64(31, "D")
"""Maximum time between the optical and the radar series; radar further away says nothing about the land."""


@dataclass(frozen=True)
class RadarFile:
    """A file with the product it belongs to, and where its images lie."""

    product: RadarProduct
    file: CubeFile
    placement: Placement


def read_radar(
    radar: Sequence[RadarFile], grid: GeoBox, optical_dates: NDArray[np.datetime64], remarks: list[str]
) -> dict[str, Acquisitions]:
    """Track → its series. Leaves out acquisitions in which no pixel has both polarisations, and tracks that have no
    other acquisitions or do not overlap the optical series in time; adds a line to `remarks` for each file or track
    left out.

    Raises:
        UserError: a missing or damaged variable, an orbit without a name, or values that cannot be backscatter.
    """
    parts: dict[str, list[tuple[NDArray[np.int16], NDArray[np.datetime64]]]] = {}
    for entry in radar:
        product, file = entry.product, entry.file
        known = file.labels(product)
        absent_bands = [band for band in S1_BANDS if product.bands[band] not in known]
        if len(absent_bands) == 1:  # with neither, the mapping is wrong
            remarks.append(f"{file.uri}: has only one polarisation, no {absent_bands[0]}: left out")
            continue
        images = np.stack([_band(entry, band, grid, remarks) for band in S1_BANDS], axis=1)
        tracks = np.array(acquisition_tracks(product, file))
        for track in np.unique(tracks):
            parts.setdefault(str(track), []).append((images[tracks == track], file.times[tracks == track]))
    series = {}
    for track, pieces in sorted(parts.items()):
        values, dates, _ = merge_days(*(np.concatenate(arrays) for arrays in zip(*pieces, strict=True)))
        usable = (values != NO_DATA).all(axis=1).any(axis=(1, 2))
        values, dates = values[usable], dates[usable]
        if not len(dates):
            remarks.append(f"radar {track}: no pixel of any acquisition has both VV and VH: left out")
        else:
            series[track] = Acquisitions(values, dates, S1_BANDS)
    return radar_near(series, optical_dates, remarks)


def radar_near(
    radar: Mapping[str, Acquisitions], optical_dates: NDArray[np.datetime64], remarks: list[str], where: str = ""
) -> dict[str, Acquisitions]:
    """The tracks without those that do not overlap the optical series in time; adds a line to `remarks`, which begins
    with `where`, for each that is left out."""
    series = {}
    for track, acquisitions in radar.items():
        first, last, begin, end = (
            each.astype("datetime64[D]") for dates in (acquisitions.dates, optical_dates) for each in dates[[0, -1]]
        )
        if last < begin - _APART or first > end + _APART:
            remarks.append(
                f"{where}radar {track}: {first} to {last} does not overlap {begin} to {end} of the optical series: "
                "left out"
            )
        else:
            series[track] = acquisitions
    return series


def acquisition_tracks(product: RadarProduct, file: CubeFile) -> list[str]:
    """The track of each acquisition [T].

    Raises:
        UserError: the file does not state the orbit, or states one that the mapping does not name.
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


def _band(entry: RadarFile, band: str, grid: GeoBox, remarks: list[str]) -> NDArray[np.int16]:
    """A band in dB × 100, [T, H, W]. Sources finer than the grid are averaged in linear power, as multilooking
    requires."""
    values = entry.file.physical(entry.product.bands[band], entry.product).astype(np.float64)
    if entry.product.unit != "db":
        positive = np.where(values > 0, values, np.nan)  # swath borders and pixels zeroed by noise removal have no data
        values = (20 if entry.product.unit == "amplitude" else 10) * np.log10(positive)
    if band == "VH":
        advice = f"correct unit, scale and offset of the mapping (its unit is {entry.product.unit})"
        require_backscatter(values, f"{entry.file.uri}: VH", advice)
    held = within_range(values, DECIBEL_SCALE)
    beyond = int((np.isnan(held) & ~np.isnan(values)).sum())
    if beyond:
        remarks.append(
            f"{entry.file.uri}: {beyond} values of {band} are not plausible backscatter in dB: they count as no data"
        )
    decibel = 10 * np.log10(resample(10 ** (held / 10), entry.placement, grid, "nearest").astype(np.float64))
    return stored_integers(decibel, DECIBEL_SCALE)

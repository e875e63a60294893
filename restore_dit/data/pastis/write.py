"""Writes simulated land in the exact layout of PASTIS-R: file names, types, shapes, dates, metadata.

Every file is written atomically, a patch's entry in `.simulated` once all of its files exist, and `metadata.geojson`
last: a killed run is completed by running it again, and a later run may add patches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data import storage
from restore_dit.data.items import Outcome, Plan, Writer
from restore_dit.data.pastis.annotations import Annotations, annotate
from restore_dit.data.pastis.layout import (
    BAD_FRAMES,
    CRS,
    METADATA,
    PIXEL,
    TILES,
    TRACKS,
    UTM_ORIGINS,
    cloud_file,
    data_file,
    instance_file,
    labels_file,
    normalisation_file,
    npy_bytes,
    parcel_ids_file,
)
from restore_dit.data.pastis.metadata import Patch, read_bad_frames
from restore_dit.data.simulation import simulate_landcover, simulate_tile
from restore_dit.errors import UserError
from restore_dit.series import CLEAR, CLOUD_NO_DATA, DECIBEL_SCALE, NO_DATA, THICK_CLOUD, TileSeries


@dataclass(frozen=True)
class Template:
    """Dates by tile in PASTIS-R's format (keys `dates-S2`, `dates-S1A`, `dates-S1D`), and bad frames by patch; None to
    simulate them."""

    dates: Mapping[str, Mapping[str, Any]] | None = None
    bad_frames: Mapping[str, list[int]] | None = None

    def number(self, index: int) -> int:
        """The number of the patch with this index. Tiles take turns; within a tile, patches are numbered as in
        `bad_frames`, or consecutively without it.

        Raises:
            UserError: `bad_frames` has no patch left in that tile.
        """
        turn, tile = divmod(index, len(TILES))
        if self.bad_frames is None:
            return (tile + 1) * 10_000 + turn
        numbers = sorted(int(patch) for patch in self.bad_frames if int(patch) // 10_000 == tile + 1)
        if turn >= len(numbers):
            raise UserError(f"--bad-frames: lists {len(numbers)} patches in {TILES[tile]}; request fewer --tiles")
        return numbers[turn]

    def simulated_dates(self, tile: str) -> dict[str, Any]:
        """Arguments of `simulate_tile` for the dates of a tile.

        Raises:
            UserError: a sensor has no dates, or a date does not exist.
        """
        if self.dates is None:
            return {}
        given = Patch(tile, dict(self.dates[tile]), np.empty((0, 2)), f"--dates: {tile}")
        return {"optical_dates": given.dates("S2"), "radar_dates": {track: given.dates(track) for track in TRACKS}}


def read_template(dates: str | None, bad_frames: str | None) -> Template:
    """The template from two JSON files, either of which may be omitted.

    Raises:
        UserError: a file cannot be read or has invalid contents, or bad frames are given without dates.
    """
    if bad_frames and not dates:
        raise UserError(
            "--bad-frames: its indices refer to the frames of real dates; specify --dates as well", status=2
        )
    if not dates:
        return Template()
    try:
        tree = json.loads(storage.read_bytes(dates))
    except ValueError as error:
        raise UserError(f"{dates}: not JSON ({' '.join(str(error).split())})") from None
    missing = [tile for tile in TILES if not isinstance(tree, dict) or not isinstance(tree.get(tile), dict)]
    if missing:
        raise UserError(f"{dates}: no dates for tile {missing[0]}; all of {', '.join(TILES)} are required")
    lists = read_bad_frames(storage.read_bytes(bad_frames), bad_frames) if bad_frames else None
    if lists is not None and not all(patch.isdigit() for patch in lists):
        raise UserError(f"{bad_frames}: its keys must be patch numbers, such as 10000")
    return Template(tree, lists)


NO_DATA_PUBLISHED = -10_000
"""No-data value of the layout: the fill value of THEIA's products."""

CLEAR_SHARE = 0.95
"""Minimum share of clear pixels for a frame not to be bad."""

_DONE = ".simulated"
_SETTINGS = "settings.json"
_PATCHES_A_ROW = 64
_PARCELS_A_PATCH = 10_000


@dataclass(frozen=True)
class PatchSimulation:
    """Makes and writes patches; can be sent to any process."""

    config: SimulationConfig
    seed: int
    template: Template
    folder: storage.Location

    def __call__(self, indices: Sequence[int]) -> Iterator[Outcome[int]]:
        """Yields the outcome of each patch, whose result is its number.

        Raises:
            UserError: the template does not fit a patch, or the folder cannot be written.
        """
        for index in indices:
            number = self.template.number(index)
            _write_patch(self.folder, self.config, self.seed, index, number, self.template)
            yield Outcome(str(number), number)


class Collection(Writer[int]):
    """The files about all patches of a folder, written once these are complete."""

    def __init__(self, folder: storage.Location) -> None:
        self.folder = folder

    def commit(self, *, recover: bool = True) -> None:
        """Writes the metadata, the lists of bad frames and the normalisation; nothing on the way."""
        if not recover:
            return
        folder = self.folder
        names = sorted(set(storage.list_names(folder.join(_DONE))) - {_SETTINGS})
        entries = [json.loads(storage.read_bytes(folder.join(_DONE, name))) for name in names]
        for sensor in ("S2", *TRACKS):
            _write_json(folder.join(normalisation_file(sensor)), _normalisation(entries, sensor))
        _write_json(folder.join(BAD_FRAMES), {str(entry["feature"]["id"]): entry["bad_frames"] for entry in entries})
        collection = {
            "type": "FeatureCollection",
            "name": "metadata",
            "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::2154"}},
            "features": [entry["feature"] for entry in entries],
        }
        _write_json(folder.join(METADATA), collection)


def plan_pastis(
    config: SimulationConfig, out: str, patches: int, *, seed: int = 0, template: Template | None = None
) -> Plan[int, int]:
    """Plans which of `patches` simulated patches a folder lacks, and claims it.

    Patches are assigned to the four tiles in turn. If the template has dates, they are used exactly for each tile; if
    it has bad frames, its patches and lists are used, and frames that a list does not name are simulated without clouds
    if they are too cloudy.

    Args:
        config: what the land looks like.
        out: the folder, conventionally named `PASTIS-R`: new, or partially written.
        patches: number of patches.
        seed: seed of the simulated area.
        template: real dates and lists.

    Raises:
        UserError: the folder contains something else, or the template does not fit.
    """
    folder = storage.locate(out)
    template = template or Template()
    numbers = [template.number(index) for index in range(patches)]
    _claim(folder, config, seed, template)
    done = set(storage.list_names(folder.join(_DONE)))
    todo = [index for index, number in enumerate(numbers) if f"{number}.json" not in done]
    work = PatchSimulation(config, seed, template, folder)
    return Plan(work, todo, folder.uri, there=patches - len(todo), writer=Collection(folder))


def _claim(folder: storage.Location, config: SimulationConfig, seed: int, template: Template) -> None:
    """Ensures that the folder is new or was written with the same configuration."""
    given = json.dumps([template.dates, template.bad_frames], sort_keys=True).encode()
    settings = {
        "simulation": config.model_dump(mode="json"),
        "seed": seed,
        "template": hashlib.blake2b(given, digest_size=16).hexdigest(),
    }
    place = folder.join(_DONE, _SETTINGS)
    if storage.exists(place):
        if json.loads(storage.read_bytes(place)) != settings:
            raise UserError(f"{folder.uri}: was simulated with other settings; use a new folder, or the same settings")
        return
    names = storage.list_names(folder)
    if names:
        raise UserError(f"{folder.uri}: contains {names[0]}, which no simulation wrote; use a new or empty folder")
    _write_json(place, settings)


def _write_patch(
    folder: storage.Location, config: SimulationConfig, seed: int, index: int, number: int, template: Template
) -> None:
    patch, tile = str(number), TILES[index % len(TILES)]
    dates = template.simulated_dates(tile)
    series = simulate_tile(config, seed, index, **dates)
    bad = None if template.bad_frames is None else template.bad_frames[patch]
    if bad is not None:
        series = _clear_but(series, simulate_tile(config, seed, index, clouds=False, **dates), bad, patch)
    assert series.clouds is not None
    annotations = annotate(simulate_landcover(config, seed, index, **dates), index * _PARCELS_A_PATCH)

    optical = np.where(series.optical.values == NO_DATA, np.int16(NO_DATA_PUBLISHED), series.optical.values)
    files: dict[str, NDArray[Any]] = {data_file("S2", patch): optical}
    for track, radar in series.radar.items():
        decibel = np.where(radar.values == NO_DATA, np.nan, radar.values / np.float32(DECIBEL_SCALE)).astype(np.float32)
        files[data_file(track, patch)] = np.concatenate([decibel, decibel[:, :1] - decibel[:, 1:]], axis=1)
    # The layout has no class for "no data"; users of the masks treat everything except 0 as missing.
    masks = np.where(series.clouds == CLOUD_NO_DATA, THICK_CLOUD, series.clouds).astype(np.int8)
    files[cloud_file(patch)] = masks[:, None]
    files |= _annotation_files(annotations, patch)
    for name, values in files.items():
        storage.write_bytes_atomically(folder.join(name), npy_bytes(values))

    entry = {
        "feature": _feature(series, annotations, number, tile, index // len(TILES)),
        "bad_frames": _bad_frames(series) if bad is None else bad,
        "sums": {sensor: _sums(files[data_file(sensor, patch)]) for sensor in ("S2", *series.radar)},
    }
    _write_json(folder.join(_DONE, f"{number}.json"), entry)


def _clear_but(series: TileSeries, truth: TileSeries, bad: list[int], patch: str) -> TileSeries:
    """The series with the cloud-free truth in every frame that is not listed as bad but is too cloudy to be good."""
    frames = len(series.optical)
    if bad and max(bad) >= frames:
        raise UserError(f"--bad-frames: patch {patch} has no frame {max(bad)}, only 0 to {frames - 1}; see --dates")
    assert series.clouds is not None
    cloudy = (series.clouds == CLEAR).mean(axis=(1, 2)) < CLEAR_SHARE
    lifted = cloudy & ~np.isin(np.arange(frames), bad)
    values, clouds = series.optical.values.copy(), series.clouds.copy()
    values[lifted], clouds[lifted] = truth.optical.values[lifted], CLEAR
    optical = type(series.optical)(values, series.optical.dates, series.optical.bands)
    return TileSeries(series.tile_id, optical, clouds, series.radar, series.georeference, series.properties)


def _bad_frames(series: TileSeries) -> list[int]:
    assert series.clouds is not None
    return np.flatnonzero((series.clouds == CLEAR).mean(axis=(1, 2)) < CLEAR_SHARE).tolist()


def _annotation_files(annotations: Annotations, patch: str) -> dict[str, NDArray[Any]]:
    return {
        labels_file(patch): annotations.target,
        parcel_ids_file(patch): annotations.parcel_ids,
        instance_file("INSTANCES", patch): annotations.instances,
        instance_file("HEATMAP", patch): annotations.heatmap,
        instance_file("ZONES", patch): annotations.zones,
    }


def _feature(series: TileSeries, annotations: Annotations, number: int, tile: str, turn: int) -> dict[str, Any]:
    def dates(acquired: NDArray[np.datetime64]) -> dict[str, int]:
        return {str(index): int(str(day).replace("-", "")) for index, day in enumerate(acquired)}

    return {
        "type": "Feature",
        "id": str(number),
        "properties": {
            "ID_PATCH": number,
            "id": str(number),
            "Fold": series.properties["fold"],
            "TILE": tile,
            "N_Parcel": annotations.parcels,
            "Parcel_Cover": annotations.cover,
            "dates-S2": dates(series.optical.dates),
            **{f"dates-{track}": dates(radar.dates) for track, radar in series.radar.items()},
        },
        "geometry": {"type": "Polygon", "coordinates": [_ring(tile, turn, series.size)]},
    }


def _ring(tile: str, turn: int, size: tuple[int, int]) -> list[list[float]]:
    """The closed footprint in Lambert-93 of the patch at this position of its tile; patches are laid out in rows from
    the upper left."""
    crs, left, top = UTM_ORIGINS[tile]
    row, column = divmod(turn, _PATCHES_A_ROW)
    height, width = size[0] * PIXEL, size[1] * PIXEL
    x = left + width * (column + np.array([0, 1, 1, 0, 0]))
    y = top - height * (row + np.array([0, 0, 1, 1, 0]))
    eastings, northings = transform(crs, CRS, x.tolist(), y.tolist())
    return [[easting, northing] for easting, northing in zip(eastings, northings, strict=True)]


def _sums(values: NDArray[Any]) -> list[list[float]]:
    """Count, sum and sum of squares of each channel of [T, C, H, W], over pixels with data."""
    known = np.isfinite(values) & (values != NO_DATA_PUBLISHED)
    numbers = np.where(known, values, 0).astype(np.float64)
    over = (0, 2, 3)
    return np.stack([known.sum(over), numbers.sum(over), np.square(numbers).sum(over)], axis=1).tolist()


def _normalisation(entries: list[dict[str, Any]], sensor: str) -> dict[str, dict[str, list[float]]]:
    """Mean and standard deviation of each channel over all pixels of each fold's patches."""
    folds: dict[int, NDArray[np.float64]] = {}
    for entry in entries:
        if sensor in entry["sums"]:
            fold = entry["feature"]["properties"]["Fold"]
            folds[fold] = folds.get(fold, np.zeros(1)) + np.array(entry["sums"][sensor])
    normalisation = {}
    for fold, sums in sorted(folds.items()):
        count, total, squares = sums.T
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0))
        normalisation[f"Fold_{fold}"] = {"mean": mean.tolist(), "std": std.tolist()}
    return normalisation


def _write_json(place: storage.Location, tree: object) -> None:
    storage.write_bytes_atomically(place, json.dumps(tree).encode())

"""`metadata.geojson`: the list of patches and the information about each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.pastis.layout import CRS, Sensor
from restore_dit.data.store.manifest import check_name
from restore_dit.errors import UserError

_LAMBERT_93 = frozenset({"EPSG:2154", "urn:ogc:def:crs:EPSG::2154"})
_EXTENT = (0.0, 1_300_000.0, 6_000_000.0, 7_200_000.0)  # metres, of France in Lambert-93: west, east, south, north


@dataclass(frozen=True)
class Patch:
    """A feature of the file: its number, properties and footprint `ring`, and `place`, how messages refer to it.
    `properties` are only checked when used, so that one bad patch does not affect others."""

    patch: str
    properties: dict[str, Any]
    ring: NDArray[np.float64]
    place: str

    @property
    def fold(self) -> int:
        """The fold, 1 to 5.

        Raises:
            UserError: missing, or not such a number.
        """
        fold = str(self.properties.get("Fold"))
        if fold not in {"1", "2", "3", "4", "5"}:
            raise UserError(f"{self.place}: Fold is {self.properties.get('Fold')!r}, must be 1 to 5; correct the file")
        return int(fold)

    def dates(self, sensor: Sensor) -> NDArray[np.datetime64]:
        """The acquisition dates of a sensor, datetime64[D], in the order of its frames.

        Raises:
            UserError: there are none, or one of them does not exist.
        """
        key = f"dates-{sensor}"
        given = self.properties.get(key)
        if isinstance(given, str):  # GDAL turns nested values into text when it rewrites the file
            given = _parsed(given)
        try:
            entries = [given[str(index)] for index in range(len(given))] if isinstance(given, dict) else given
        except KeyError as error:
            raise UserError(f"{self.place}: {key} has no entry {error}; correct the file") from None
        if not isinstance(entries, list) or not entries:
            raise UserError(f"{self.place}: no {key}; correct the file or leave that sensor out")
        return np.array([self._date(key, entry) for entry in entries], "datetime64[D]")

    def _date(self, key: str, entry: object) -> np.datetime64:
        text = str(entry)
        try:
            if len(text) != 8:
                raise ValueError
            return np.datetime64(datetime.strptime(text, "%Y%m%d").date(), "D")
        except ValueError:
            raise UserError(f"{self.place}: {key}: {entry!r} is not a date (YYYYMMDD); correct the file") from None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def read_metadata(content: bytes, origin: str) -> tuple[list[Patch], dict[str, str]]:
    """The patches in file order, and those that are unusable or ambiguous: name → what is wrong.

    Raises:
        UserError: the file is not JSON, has no features, or has coordinates in another CRS.
    """
    try:
        tree = json.loads(content)
    except (UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{origin}: not JSON ({' '.join(str(error).split())}); fetch it again") from None
    if not isinstance(tree, dict) or tree.get("type") != "FeatureCollection":
        raise UserError(f"{origin}: not a GeoJSON FeatureCollection; use PASTIS-R's own file")
    features = tree.get("features")
    if not isinstance(features, list) or not features:
        raise UserError(f"{origin}: no features; fetch it again")
    patches: dict[str, Patch] = {}
    bad: dict[str, str] = {}
    for index, feature in enumerate(features):
        try:
            patch = _patch(feature, f"{origin}: feature {index}", origin)
        except UserError as error:
            bad[f"feature-{index}"] = str(error)
            continue
        if patch.patch in patches:
            bad[patch.patch] = f"{origin}: patch {patch.patch} occurs twice; correct the file"
        patches[patch.patch] = patch
    _check_crs(tree.get("crs"), [patch.ring for patch in patches.values()], origin)
    return [patch for patch in patches.values() if patch.patch not in bad], bad


def _patch(feature: Any, place: str, origin: str) -> Patch:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    if not isinstance(properties, dict):
        raise UserError(f"{place}: no properties; correct the file")
    number = properties.get("ID_PATCH")
    if not isinstance(number, int | str) or isinstance(number, bool):
        raise UserError(f"{place}: ID_PATCH is {number!r}, must be the patch's number; correct the file")
    patch = check_name(str(number), "patch number")
    return Patch(patch, properties, _ring(feature.get("geometry")), f"{origin}: patch {patch}")


def _ring(geometry: Any) -> NDArray[np.float64]:
    """The outer ring [n, 2] of a polygon, or of a multi-polygon with a single part; empty if there is none."""
    empty = np.empty((0, 2))
    if not isinstance(geometry, dict):
        return empty
    try:
        rings = geometry["coordinates"]
        if geometry["type"] == "MultiPolygon":
            rings = rings[0] if len(rings) == 1 else []
        elif geometry["type"] != "Polygon":
            return empty
        ring = np.array([point[:2] for point in rings[0]], np.float64)
    except (KeyError, IndexError, TypeError, ValueError):
        return empty
    return ring if ring.ndim == 2 and ring.shape[1] == 2 and np.isfinite(ring).all() else empty


def _check_crs(crs: Any, rings: list[NDArray[np.float64]], origin: str) -> None:
    """Footprints must be in Lambert-93. If the file names no CRS, as some libraries write it, this is judged by the
    coordinates."""
    if crs is not None:
        try:
            name = crs["properties"]["name"]
        except (KeyError, TypeError):
            name = crs
        if str(name) not in _LAMBERT_93:
            raise UserError(f"{origin}: CRS {name} instead of {CRS}; use PASTIS-R's own file")
        return
    west, east, south, north = _EXTENT
    for ring in rings:
        x, y = ring.T
        if not ((x > west) & (x < east) & (y > south) & (y < north)).all():
            raise UserError(f"{origin}: names no CRS, and its coordinates are not in {CRS}; use PASTIS-R's own file")


def read_bad_frames(content: bytes, origin: str) -> dict[str, list[int]]:
    """`bad_frames.json`: patch → indices of optical frames that are not clear enough to be targets.

    Raises:
        UserError: the file is not JSON, or not such a mapping.
    """
    try:
        tree = json.loads(content)
    except (UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{origin}: not JSON ({' '.join(str(error).split())}); fetch it again") from None
    if not isinstance(tree, dict) or not all(
        isinstance(frames, list) and all(type(frame) is int for frame in frames) for frames in tree.values()
    ):
        raise UserError(f'{origin}: must map patches to lists of frame indices, such as {{"10000": [0, 2]}}')
    return tree

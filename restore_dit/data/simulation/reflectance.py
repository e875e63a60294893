"""Reflectance of a cloud-free surface in ten bands: canopies over soil, straw and snow, for the sun position of the
day."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.simulation.canopy import canopy_table, leaf_area_nodes
from restore_dit.data.simulation.covers import COVERS, RAPESEED_FLOWERS, SNOW, STRAW
from restore_dit.data.simulation.revisit import Geometry
from restore_dit.data.simulation.surface import PatchState, Surface

_WET_DARKENING = np.array([0.38, 0.38, 0.38, 0.38, 0.36, 0.36, 0.36, 0.36, 0.50, 0.56], np.float32)
_WET_LEAVES = np.array([0] * 8 + [0.10, 0.14], np.float32)  # films of water on vegetation
_CLODS = np.float32(0.12)  # share of the light lost in the shadows of a freshly ploughed field
_MIN_BROWN = np.float32(0.06)  # share of stems, ears and old leaves in a green canopy's leaf area
_WITHERED = {"chlorophyll": 6.0, "water": 0.003}
_SNOW_ON_CANOPY = np.array(
    [0.15 if "forest" in cover.name else 0.0 if cover.name == "water" else 0.6 for cover in COVERS], np.float32
)

Field = NDArray[np.float32]


def _of_covers(name: str) -> Field:
    return np.array([getattr(cover.leaves, name) for cover in COVERS], np.float32)


_LEAVES = {name: _of_covers(name) for name in ("chlorophyll", "water", "dry_matter", "angle", "gaps")}


def render_reflectance(
    surface: Surface, state: PatchState, frame: int, day: int, moisture: float, snow: float, geometry: Geometry
) -> Field:
    """Reflectance [10, H, W] on a `day` of the period, which is index `frame` of `state`; `moisture` of the topsoil and
    `snow` cover of the ground in 0–1.

    Canopy and soil are coupled as in 4SAIL (see `canopy_table`). Soil and straw are Lambertian except for the shadows
    of their roughness, which grow with the solar zenith angle and are hidden from a sensor that looks away from the
    sun.
    """
    sun, view = np.rad2deg(geometry.sun_zenith), np.rad2deg(geometry.view)
    covers = state.covers[frame]
    canopies = _patch_canopies(surface, state, frame, day, sun, view)
    area = state.leaf_area[frame] + state.brown_area[frame]
    position = np.interp(area[surface.patches] * surface.growth(day), leaf_area_nodes(), np.arange(canopies.shape[1]))
    before = np.minimum(position.astype(np.intp), canopies.shape[1] - 2)
    share = (position - before).astype(np.float32)[:, None]
    rows = canopies.reshape(-1, 30)
    row = surface.patches * canopies.shape[1] + before
    coefficients = rows.take(row, axis=0)
    coefficients += share * (rows.take(row + 1, axis=0) - coefficients)

    soil = _ground(surface, state, frame, moisture)
    soil *= np.float32(1 - 0.10 * (sun - 40) / 30 + 0.04 * view / 10 * np.tan(geometry.sun_zenith))
    if snow > 0:
        soil += np.float32(snow) * (SNOW - soil)
    values = coefficients[:, 20:] * soil
    np.subtract(1, values, out=values)
    np.divide(soil, values, out=values)
    values *= coefficients[:, 10:20]
    values += coefficients[:, :10]
    values *= 1 - _WET_LEAVES * np.float32(moisture)
    if snow > 0:
        values += (np.float32(snow) * _SNOW_ON_CANOPY[covers])[surface.patches][:, None] * (SNOW - values)
    north, east = surface.slopes
    sunward = np.cos(geometry.sun_azimuth) * north + np.sin(geometry.sun_azimuth) * east
    values *= (1 - np.float32(np.tan(geometry.sun_zenith)) * sunward.astype(np.float32)).clip(0.2, 2)[:, None]
    return np.ascontiguousarray(values.T).reshape(10, *surface.landscape.parcels.shape)


def _patch_canopies(surface: Surface, state: PatchState, frame: int, day: int, sun: float, view: float) -> Field:
    """Coefficients [Q, L, 3, 10] of each patch's canopy over the leaf areas of the table."""
    covers, parcels = state.covers[frame], surface.patch_parcels
    brown = state.brown_area[frame] / np.maximum(state.leaf_area[frame] + state.brown_area[frame], 1e-3)
    brown = _MIN_BROWN + (1 - _MIN_BROWN) * brown
    fresh = {
        "chlorophyll": _LEAVES["chlorophyll"][covers] * surface.chlorophyll[parcels],
        "water": _LEAVES["water"][covers] * surface.water[day][parcels],
    }
    leaves = {name: value + brown * (np.float32(_WITHERED[name]) - value) for name, value in fresh.items()}
    leaves |= {"brown": brown, "dry_matter": _LEAVES["dry_matter"][covers]}
    angle = _LEAVES["angle"][covers] + surface.angle[day][parcels]
    canopies = canopy_table().seen(sun, view).canopies(leaves, angle)
    # Shadows of crowns darken the canopy's own reflectance; gaps between crowns are part of the leaf area.
    gaps = _LEAVES["gaps"][covers] * np.float32(min(np.tan(np.deg2rad(sun)) / np.tan(np.pi / 3), 1.4))
    canopies[:, 1:, :2] *= (1 - gaps)[:, None, None, None]
    flowers = state.flowers[frame][:, None, None, None]
    if flowers.max() > 0.01:
        canopies[:, 1:, :2] *= 1 - flowers
        canopies[:, 1:, 0] += flowers[:, :, 0] * RAPESEED_FLOWERS
    return canopies


def _ground(surface: Surface, state: PatchState, frame: int, moisture: float) -> Field:
    """Reflectance [N, 10] of soil, roofs and water below the canopy: darker when wet or ploughed, partly covered by
    straw."""
    patches = surface.patches
    wet = np.float32(moisture) * surface.wettable[:, None]
    ground = surface.background * (1 - _WET_DARKENING * wet)
    ground *= (1 - _CLODS * state.tilled[frame])[patches][:, None]
    straw = STRAW * (1 - np.float32(0.2) * wet)
    straw -= ground
    straw *= state.dry[frame][patches][:, None]
    ground += straw
    return ground

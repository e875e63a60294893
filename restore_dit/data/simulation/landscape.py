"""The map of a tile: field blocks between roads and hedges, divided into fields, overlaid with woods, water and
villages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import ndtri

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation.covers import COVER_NUMBER
from restore_dit.data.simulation.random_fields import texture

ARABLE = -1
"""Cover of a parcel whose crop changes from year to year."""

_BLOCK_SIDE = 48.0  # pixels between the centres of neighbouring field blocks
_PIXELS_PER_HECTARE = 100


@dataclass(frozen=True)
class Landscape:
    """`parcels` int32 [H, W] is the parcel number of each pixel; `covers` int [P] is each parcel's index in `COVERS`,
    or `ARABLE`."""

    parcels: NDArray[np.int32]
    covers: NDArray[np.int64]


def draw_landscape(config: SimulationConfig, generator: np.random.Generator) -> Landscape:
    """A random map with fields and woods according to the settings."""
    height, width, field_hectares = config.height, config.width, config.field_hectares
    rows, columns = (axis.ravel().astype(np.float32) for axis in np.indices((height, width)))
    blocks, hedge, road = _field_blocks(rows, columns, height, width, generator)
    parcels = np.empty(height * width, np.int32)
    covers: list[int] = []
    grass_share = generator.beta(2, 6)
    for block in np.unique(blocks):
        pixels = np.flatnonzero(blocks == block)
        angle = generator.uniform(0, np.pi)
        along = rows[pixels] * np.sin(angle) + columns[pixels] * np.cos(angle)
        across = rows[pixels] * np.cos(angle) - columns[pixels] * np.sin(angle)
        for field in _split(along, across, field_hectares * _PIXELS_PER_HECTARE, generator):
            parcels[pixels[field]] = len(covers)
            covers.append(COVER_NUMBER["grassland"] if generator.random() < grass_share else ARABLE)
    covers = _overlay(parcels, covers, road, "road")
    covers = _overlay(parcels, covers, hedge, "deciduous forest")
    for name, mask in _patches(height, width, config.woods, generator):
        covers = _overlay(parcels, covers, mask.ravel(), name)
    return Landscape(parcels.reshape(height, width), np.array(covers))


def _field_blocks(
    rows: NDArray[np.float32], columns: NDArray[np.float32], height: int, width: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Block numbers of the Voronoi cells of a jittered grid, and the masks of hedges and roads along their edges."""
    grid = np.stack(
        np.meshgrid(np.arange(-1, height // _BLOCK_SIDE + 3), np.arange(-1, width // _BLOCK_SIDE + 3), indexing="ij"),
        axis=-1,
    ).reshape(-1, 2)
    centres = (grid - generator.random(2) + generator.uniform(-0.35, 0.35, grid.shape)) * _BLOCK_SIDE
    distances, nearest = cKDTree(centres).query(np.stack([rows, columns], axis=1), k=2)
    apart = np.linalg.norm(centres[nearest[:, 0]] - centres[nearest[:, 1]], axis=1)
    edge_distance = (distances[:, 1] ** 2 - distances[:, 0] ** 2) / (2 * apart)
    edge_kind = generator.random((len(centres), len(centres)))
    kind = edge_kind[nearest.min(axis=1), nearest.max(axis=1)]
    return nearest[:, 0], (edge_distance < 0.8) & (kind < 0.2), (edge_distance < 0.6) & (kind > 0.45)


def _split(
    along: NDArray[np.float32], across: NDArray[np.float32], median_area: float, generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Repeatedly cuts a block's pixels across its longer side until each part has the size of a field."""
    fields, pending = [], [np.arange(len(along))]
    while pending:
        part = pending.pop()
        if len(part) < 1.6 * median_area * generator.lognormal(0.0, 0.5):
            fields.append(part)
            continue
        lengths = np.ptp(along[part]), np.ptp(across[part])
        axis = along if (lengths[0] > lengths[1]) == (generator.random() < 0.8) else across
        low, high = axis[part].min(), axis[part].max()
        left = axis[part] < low + generator.uniform(0.3, 0.7) * (high - low)
        if left.all() or not left.any():  # one pixel wide: cannot be cut
            fields.append(part)
            continue
        pending += [part[left], part[~left]]
    return fields


def _patches(
    height: int, width: int, woods: float, generator: np.random.Generator
) -> list[tuple[str, NDArray[np.bool_]]]:
    """Woods, a village, a stream or a pond, as (cover name, mask [H, W]); most tiles lack some of them."""
    shape = (height, width)
    patches: list[tuple[str, NDArray[np.bool_]]] = []
    for name, part in (("deciduous forest", 0.7), ("coniferous forest", 0.3)):
        extent = texture(shape, 60.0, 4.0, generator)
        share = min(part * woods * float(generator.gamma(1.0)), 0.9)
        patches.append((name, extent > ndtri(1 - share)))
    rows, columns = np.indices(shape, np.float32)
    ragged = texture(shape, 20.0, 3.0, generator)
    for name, chance, largest in (("built-up", 0.45, 18.0), ("water", 0.2, 7.0)):
        centre = generator.random(2) * shape
        radius = generator.uniform(0.4, 1.0) * largest
        if generator.random() < chance:
            distance = np.hypot(rows - centre[0], columns - centre[1])
            patches.append((name, distance < radius * (1 + 0.3 * ragged)))
    meander = texture(shape, 80.0, 4.0, generator)
    direction, half_width = generator.uniform(0, np.pi), generator.uniform(0.7, 2.5)
    if generator.random() < 0.2:
        offset = (rows - height / 2) * np.sin(direction) + (columns - width / 2) * np.cos(direction)
        patches.append(("water", np.abs(offset + 8 * meander) < half_width))
    return patches


def _overlay(parcels: NDArray[np.int32], covers: list[int], mask: NDArray[np.bool_], name: str) -> list[int]:
    """Turns `mask` into one more parcel with the named cover."""
    parcels[mask] = len(covers)
    return [*covers, COVER_NUMBER[name]]

"""Reflectance of canopies over soil, looked up in the table that `canopy_table` builds from PROSPECT-D and 4SAIL."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

TABLE = "canopy_table.npz"
AXES = ("chlorophyll", "brown", "water", "dry_matter", "angle", "leaf_area", "sun", "view")
_LEAF_AXES = AXES[:4]

Field = NDArray[np.float32]


@dataclass(frozen=True)
class CanopyTable:
    """`values` float32 [sun, view, *nodes of the other `AXES`, 3, 10]; `nodes` are the grid values of each axis."""

    values: Field
    nodes: dict[str, Field]

    def seen(self, sun: float, view: float) -> CanopyView:
        """The table interpolated to one sun and sensor position: zenith angles in degrees, the sensor's negative in the
        west. Angles beyond the grid are clamped to its edge."""
        values = self.values
        for axis, angle in (("sun", sun), ("view", view)):
            before, share = _place(self.nodes[axis], np.array(angle))
            values = values[before] * (1 - share) + values[before + 1] * share
        return CanopyView(values, self.nodes)


@dataclass(frozen=True)
class CanopyView:
    """The table for one sun and view direction: `values` float32 [*nodes of the first six `AXES`, 3, 10]."""

    values: Field
    nodes: dict[str, Field]

    def canopies(self, leaves: dict[str, Field], angles: Field) -> Field:
        """Coefficients float32 [n, L, 3, 10] of n canopies over the L leaf areas of `leaf_area_nodes`.

        Args:
            leaves: chlorophyll, brown, water and dry_matter, [n] each.
            angles: mean leaf angle [n] in degrees.
        """
        grid, count = self.values.shape[:5], len(angles)
        flat = self.values.reshape(int(np.prod(grid)), -1)
        places = [_place(self.nodes[axis], leaves[axis]) for axis in _LEAF_AXES]
        places.append(_place(self.nodes["angle"], angles))
        row, weight = np.zeros((count, 1), np.int64), np.ones((count, 1), np.float32)
        # Multilinear interpolation: each axis doubles the corners, and its share weights them.
        for size, (before, share) in zip(grid, places, strict=True):
            row = np.concatenate([row * size + before[:, None], row * size + before[:, None] + 1], axis=1)
            weight = np.concatenate([weight * (1 - share[:, None]), weight * share[:, None]], axis=1)
        mixed = np.zeros((count, flat.shape[1]), np.float32)
        for corner in range(row.shape[1]):
            mixed += weight[:, corner, None] * flat[row[:, corner]]
        leafy = mixed.reshape(count, *self.values.shape[5:])
        bare = np.zeros_like(leafy[:, :1])
        bare[:, :, 1] = 1
        return np.concatenate([bare, leafy], axis=1)


@cache
def canopy_table() -> CanopyTable:
    """The shipped table."""
    with resources.files(__package__).joinpath(TABLE).open("rb") as file, np.load(file) as stored:
        nodes = {axis: stored[axis].astype(np.float32) for axis in AXES}
        values = np.moveaxis(stored["values"], (AXES.index("sun"), AXES.index("view")), (0, 1))
        return CanopyTable(np.ascontiguousarray(values, np.float32) / np.float32(65535), nodes)


def leaf_area_nodes() -> Field:
    """The leaf area nodes [L] of `CanopyView.canopies`, beginning with 0; larger leaf areas look like the last."""
    return np.concatenate([[0], canopy_table().nodes["leaf_area"]]).astype(np.float32)


def _place(nodes: Field, values: NDArray[np.floating]) -> tuple[NDArray[np.int64], Field]:
    """For each value, the index of the node before it and its fractional position on the way to the next; clamped to
    the edge nodes."""
    position = np.interp(values, nodes, np.arange(len(nodes)))
    before = np.minimum(position.astype(np.int64), len(nodes) - 2)
    return before, (position - before).astype(np.float32)

"""Annotates a simulated landscape in the style of PASTIS-R: crops, parcels, instances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from restore_dit.data.simulation import LandCover

CROP_CLASSES = {
    "grassland": 1,
    "winter wheat": 2,
    "maize": 3,
    "winter barley": 4,
    "winter rapeseed": 5,
    "spring barley": 6,
    "sugar beet": 9,
    "potato": 13,
}
"""Land cover of the simulator → class in PASTIS; every other cover is background."""

_SMALLEST_PARCEL = 4
"""Minimum parcel size in pixels; smaller parcels are background."""


@dataclass(frozen=True)
class Annotations:
    """Annotations of a patch.

    - `target`: uint8 [3, H, W]; the first channel is the crop, the others are 0.
    - `parcel_ids`: int32 [H, W], 0 for none.
    - `instances`: int32 [H, W], parcels numbered from 1.
    - `heatmap`: float32 [H, W], 1 at a parcel's centre and 0 at its edge.
    - `zones`: int32 [H, W], the nearest parcel of each pixel.
    """

    target: NDArray[np.uint8]
    parcel_ids: NDArray[np.int32]
    instances: NDArray[np.int32]
    heatmap: NDArray[np.float32]
    zones: NDArray[np.int32]

    @property
    def parcels(self) -> int:
        """Number of parcels."""
        return int(self.instances.max())

    @property
    def cover(self) -> float:
        """Share of the patch covered by parcels."""
        return float((self.instances > 0).mean())


def annotate(land: LandCover, first_parcel: int) -> Annotations:
    """The annotations of a landscape; `parcel_ids` are numbered from `first_parcel`."""
    to_class = np.array([CROP_CLASSES.get(name, 0) for name in land.names], np.uint8)
    crops = to_class[land.classes]
    instances = np.zeros(crops.shape, np.int32)
    for parcel in np.unique(land.parcels[crops > 0]):
        pixels = (land.parcels == parcel) & (crops > 0)
        if pixels.sum() >= _SMALLEST_PARCEL:
            instances[pixels] = instances.max() + 1
    target = np.zeros((3, *crops.shape), np.uint8)
    target[0] = np.where(instances > 0, crops, 0)
    return Annotations(
        target=target,
        parcel_ids=np.where(instances > 0, instances + first_parcel, 0).astype(np.int32),
        instances=instances,
        heatmap=_centredness(instances),
        zones=_nearest(instances),
    )


def _centredness(instances: NDArray[np.int32]) -> NDArray[np.float32]:
    """Distance from the parcel's edge as a share of the largest such distance in the parcel."""
    heatmap = np.zeros(instances.shape, np.float32)
    for parcel in range(1, int(instances.max()) + 1):
        depth = ndimage.distance_transform_edt(np.pad(instances == parcel, 1))[1:-1, 1:-1]
        heatmap = np.maximum(heatmap, (depth / depth.max()).astype(np.float32))
    return heatmap


def _nearest(instances: NDArray[np.int32]) -> NDArray[np.int32]:
    if not instances.any():
        return instances.copy()
    rows, columns = ndimage.distance_transform_edt(instances == 0, return_distances=False, return_indices=True)
    return instances[rows, columns]

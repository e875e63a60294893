"""Detects shadows: dark pixels where the shadow of a cloud can fall."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restore_dit.clouds.rule.bands import RuleBands
from restore_dit.clouds.rule.cloud_tests import Bands
from restore_dit.clouds.rule.patches import Mask, grown
from restore_dit.clouds.rule.place import Place, sun_angles
from restore_dit.config.cloud_rule import RuleConfig

# Additional eastward shift of a shadow relative to the image of its cloud, in metres per metre of cloud height: the
# sensor views the tile from up to 10.3° west or east, and the side is unknown.
_VIEWS = np.tan(np.deg2rad(10.3)) * np.linspace(-1, 1, 5)
_LOWEST_SUN = np.deg2rad(85)


def is_dark(
    now: Bands,
    clear: Bands,
    bands: RuleBands,
    cloud: Mask,
    dates: NDArray[np.datetime64],
    place: Place,
    config: RuleConfig,
) -> Mask:
    """Shadow [T, H, W]: near and short-wave infrared are both darker than the clear reference, by `config.shadow_ratio`
    where a cloud of the tile (`cloud` [T, H, W]) can cast a shadow, and by `shadow_ratio_outside` where only a cloud
    outside the tile can. Both bands must be dark, because a harvest mostly darkens one of them, and rain the other."""
    infrared = [band for band in (bands.near, bands.shortwave) if band]
    ratio = np.max([now[band] / np.maximum(clear[band], 1e-3) for band in infrared], axis=0)
    drop = np.min([clear[band] - now[band] for band in infrared], axis=0)
    below, outside = shadow_reach(cloud, dates, place, config)
    dark = (below & (ratio < config.shadow_ratio)) | (outside & (ratio < config.shadow_ratio_outside))
    return dark & (drop > config.shadow_drop)


def shadow_reach(cloud: Mask, dates: NDArray[np.datetime64], place: Place, config: RuleConfig) -> tuple[Mask, Mask]:
    """Masks [T, H, W] of where the shadows of clouds in the tile can fall, and of where those of clouds outside it can.

    A cloud at height h casts its shadow at a distance of h·tan(zenith), away from the sun. Its height is unknown,
    between `config.lowest_cloud` and `config.highest_cloud`, so the possible shadows form a fan that starts at the
    cloud. For clouds outside the tile, heights up to `config.outside_cloud` are considered. If the latitude, and so the
    position of the sun, is unknown, the first mask is empty and the second covers everything.
    """
    below, outside = np.zeros_like(cloud), np.zeros_like(cloud)
    if place.latitude is None:
        outside[:] = True
        return below, outside
    zeniths, azimuths = sun_angles(dates, place.latitude)
    for frame, (zenith, azimuth) in enumerate(zip(zeniths, azimuths, strict=True)):
        slope = np.tan(min(zenith, _LOWEST_SUN))
        away = -slope * np.array([np.sin(azimuth), np.cos(azimuth)])
        outside[frame] = _height_at_edge(cloud.shape[1:], place.pixels @ -away) <= config.outside_cloud
        if not cloud[frame].any():
            continue
        for view in _VIEWS:
            step = place.pixels @ (away + np.array([view, 0]))
            below[frame] |= _swept(cloud[frame], step * config.lowest_cloud, step * config.highest_cloud)
    return grown(below, config.shadow_tolerance, place), outside


def _height_at_edge(size: tuple[int, ...], step: NDArray[np.float64]) -> NDArray[np.float64]:
    """Height in metres [H, W] at which the line from each pixel to the sun leaves the tile. `step`: pixels (down,
    right) along this line per metre of height."""
    heights = []
    for length, along in zip(size, step, strict=True):
        index = np.arange(length) + 0.5
        distance = length - index if along > 0 else index
        heights.append(distance / max(abs(along), 1e-9))
    return np.minimum(heights[0][:, None], heights[1][None, :])


def _swept(mask: Mask, start: NDArray[np.float64], end: NDArray[np.float64]) -> Mask:
    """Union of a mask [H, W] moved from one shift to another, (down, right) in pixels, along a straight line."""
    farthest = np.abs(end - start).max()
    steps = int(np.ceil(min(farthest, 2 * max(mask.shape)))) + 1
    one = (end - start) / max(farthest, 1)
    swept, covered = _shifted(mask, start), 1
    while covered < steps:
        ahead = min(covered, steps - covered)
        swept = swept | _shifted(swept, one * ahead)
        covered += ahead
    return swept


def _shifted(mask: Mask, shift: NDArray[np.float64]) -> Mask:
    down, right = (round(part) for part in shift)
    height, width = mask.shape
    shifted = np.zeros_like(mask)
    if abs(down) < height and abs(right) < width:
        shifted[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = mask[
            max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)
        ]
    return shifted

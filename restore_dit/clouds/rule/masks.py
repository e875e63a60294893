"""Computes the cloud and shadow masks of a tile by the rule. Shadows are dark pixels where the shadow of a cloud can
fall; small patches are removed from the masks, and the others grow."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from restore_dit.clouds.reference import clear_reference
from restore_dit.clouds.rule.cloud_tests import (
    Bands,
    Mask,
    RuleBands,
    cloud_excess,
    is_bright,
    is_hazy,
    is_snow,
    rule_bands,
)
from restore_dit.clouds.rule.place import Place, place_of, sun_angles
from restore_dit.config.clouds import RuleConfig
from restore_dit.series import (
    CLEAR,
    CLOUD_NO_DATA,
    NO_DATA,
    REFLECTANCE_SCALE,
    SHADOW,
    THICK_CLOUD,
    THIN_CLOUD,
    TileSeries,
)

RULE_VERSION = 1
"""Incremented with every change that affects masks."""

_MIN_DATES = 5  # minimum number of dates with data for a valid clear reference

# Additional eastward shift of a shadow relative to the image of its cloud, in metres per metre of cloud height: the
# sensor views the tile from up to 10.3° west or east, and the side is unknown.
_VIEWS = np.tan(np.deg2rad(10.3)) * np.linspace(-1, 1, 5)
_LOWEST_SUN = np.deg2rad(85)


def rule_identity(config: RuleConfig) -> str:
    """Version and settings of the rule, as recorded in the origin of masks."""
    settings = hashlib.blake2b(config.model_dump_json().encode(), digest_size=6).hexdigest()
    return f"version {RULE_VERSION}, settings {settings}"


def rule_masks(series: TileSeries, config: RuleConfig) -> NDArray[np.uint8]:
    """Classes uint8 [T, H, W] of all frames of a tile: 0 clear, 1 thick cloud, 2 thin cloud, 3 shadow, 255 where a band
    that the rule uses has no data and, unless `config.snow` is `clear`, for snow.

    Raises:
        UserError: the tile lacks bands that the rule needs.
    """
    bands = rule_bands(series.optical.bands)
    dates = series.optical.dates
    place = place_of(series.georeference, series.size)
    stored = series.optical.values[:, [series.optical.bands.index(band) for band in bands.used]]
    unknown = (stored == NO_DATA).any(axis=1)
    values = stored.astype(np.float32) / np.float32(REFLECTANCE_SCALE)
    np.copyto(values, np.nan, where=unknown[:, None])
    reference = clear_reference(values, dates, bands.used)
    reference[:, :, (~unknown).sum(axis=0) < _MIN_DATES] = np.nan
    now = {band: values[:, channel] for channel, band in enumerate(bands.used)}
    clear = {band: reference[:, channel] for channel, band in enumerate(bands.used)}

    snow = is_snow(now, bands, dates, place, config)
    excess = cloud_excess(now, clear, bands, config)
    bright = np.isnan(clear[bands.short]) & is_bright(now, bands, config)
    cloud = (excess > config.cloud_excess) | is_hazy(excess, place, config) | bright
    cloud = without_specks(cloud & ~snow, config.smallest, place)
    shadow = is_dark(now, clear, bands, cloud, dates, place, config) & ~cloud & ~snow
    shadow = without_specks(shadow, config.smallest, place)

    classes = np.full(unknown.shape, CLEAR, np.uint8)
    classes[grown(shadow, config.shadow_growth, place)] = SHADOW
    classes[grown(cloud, config.cloud_growth, place)] = THIN_CLOUD
    classes[cloud & ((now[bands.short] - clear[bands.short] > config.thick_excess) | bright)] = THICK_CLOUD
    if config.snow == "no_data":
        classes[snow] = CLOUD_NO_DATA
    classes[unknown] = CLOUD_NO_DATA
    return classes


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


def without_specks(mask: Mask, square_metres: float, place: Place) -> Mask:
    """The mask [T, H, W] without patches below an area. Patches are 8-connected within a frame."""
    within_frame = np.zeros((3, 3, 3), bool)
    within_frame[1] = True
    patches, count = ndimage.label(mask, within_frame)
    least = square_metres / place.pixel_area - 1e-6  # pixels; the tolerance allows for rounding of the pixel area
    kept = np.bincount(patches.ravel(), minlength=count + 1) >= least
    kept[0] = False
    return kept[patches]


def grown(mask: Mask, metres: float, place: Place) -> Mask:
    """The mask [T, H, W] dilated by a distance: alternately by diamonds and squares, which approximates a circle and,
    if pixels are not square, by the remaining distance along their shorter side."""
    down, right = (round(metres / side) for side in place.pixel_sides)
    for step in range(min(down, right)):
        mask = ndimage.binary_dilation(mask, ndimage.generate_binary_structure(2, 1 + step % 2)[None])
    left = (1, 1 + 2 * max(down - right, 0), 1 + 2 * max(right - down, 0))
    return mask if down == right else ndimage.binary_dilation(mask, np.ones(left, bool))

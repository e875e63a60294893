"""Cloud and shadow masks of a tile by the rule, step by step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from restore_dit.clouds.reference import clear_reference
from restore_dit.clouds.rule.bands import rule_bands
from restore_dit.clouds.rule.place import Place, place_of
from restore_dit.clouds.rule.shadows import grown, shadow_reach
from restore_dit.clouds.rule.sun import sun_angles
from restore_dit.config.cloud_rule import RuleConfig
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
"""Rises with every change that changes masks."""

_DARKENING = 0.1  # most darkening in B11, wet soil or ice cloud, that counts as a change of the ground
_DARK_RANK = 0.1  # in ascending brightness, of the date that shows how dark a pixel is without cloud

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]


def rule_masks(series: TileSeries, config: RuleConfig) -> NDArray[np.uint8]:
    """Classes uint8 [T, H, W] of every frame of a tile: 0 clear, 1 thick cloud, 2 thin cloud, 3 shadow, 255 where a
    band that the rule uses has no data, and, unless `config.snow` is clear, under snow.

    Raises:
        UserError: the tile lacks the bands that the rule needs.
    """
    bands = rule_bands(series.optical.bands)
    place = place_of(series.georeference, series.size)
    stored = series.optical.values[:, [series.optical.bands.index(band) for band in bands.used]]
    unknown = (stored == NO_DATA).any(axis=1)
    values = stored.astype(np.float32) / np.float32(REFLECTANCE_SCALE)
    np.copyto(values, np.nan, where=unknown[:, None])
    reference = clear_reference(values, series.optical.dates, bands.used)
    now = {band: values[:, channel] for channel, band in enumerate(bands.used)}
    clear = {band: reference[:, channel] for channel, band in enumerate(bands.used)}

    short, short_clear = now[bands.short], clear[bands.short]
    excess = short - short_clear
    white = np.ones_like(unknown)
    snow = np.zeros_like(unknown)
    if bands.shortwave:
        shortwave = now[bands.shortwave]
        excess -= config.soil_share * np.maximum(shortwave - clear[bands.shortwave], -_DARKENING)
        white = shortwave < short
        snow = _snow(now[bands.green], shortwave, series.optical.dates, place, config)
    sudden = short - _darkest(short) > config.bright
    bright = white & (short > config.bright) & (sudden | np.isnan(short_clear))
    cloud = _without_specks(((excess > config.cloud_excess) | bright) & ~snow, place, config)
    thick = (excess > config.thick_excess) | bright

    infrared = [band for band in (bands.near, bands.shortwave) if band]
    below, outside = shadow_reach(cloud, series.optical.dates, place, config)
    ratio = np.max([now[band] / np.maximum(clear[band], 1e-3) for band in infrared], axis=0)
    drop = np.min([clear[band] - now[band] for band in infrared], axis=0)
    dark = (below & (ratio < config.shadow_ratio)) | (outside & (ratio < config.shadow_ratio_outside))
    shadow = _without_specks(dark & (drop > config.shadow_drop) & ~cloud & ~snow, place, config)

    classes = np.full(unknown.shape, CLEAR, np.uint8)
    classes[grown(shadow, config.shadow_growth, place)] = SHADOW
    classes[grown(cloud, config.cloud_growth, place)] = THIN_CLOUD
    classes[cloud & thick] = THICK_CLOUD
    if config.snow == "no_data":
        classes[snow] = CLOUD_NO_DATA
    classes[unknown] = CLOUD_NO_DATA
    return classes


def _snow(green: Field, shortwave: Field, dates: NDArray[np.datetime64], place: Place, config: RuleConfig) -> Mask:
    """Where it is white in the visible and dark in the short-wave infrared, as snow is and few clouds are, at a time of
    the year when there may be snow."""
    index = (green - shortwave) / np.maximum(green + shortwave, 1e-3)
    snow = (index > config.snow_index) & (shortwave < config.snow_b11) & (green > 0.15)
    if place.latitude is not None:
        zenith, _ = sun_angles(dates, place.latitude)
        snow &= (np.rad2deg(zenith) >= config.snow_sun)[:, None, None]
    return snow


def _darkest(short: Field) -> Field:
    """The pixel's 10th percentile over all dates [H, W]; 0 where it was never seen."""
    ranked = np.sort(short, axis=0)  # NaN last
    known = np.isfinite(ranked).sum(axis=0)
    darkest = np.take_along_axis(ranked, (known * _DARK_RANK).astype(np.intp)[None], axis=0)[0]
    return np.nan_to_num(darkest)


def _without_specks(mask: Mask, place: Place, config: RuleConfig) -> Mask:
    """The mask [T, H, W] less patches smaller than `config.smallest`; pixels that touch at a corner are one patch."""
    structure = np.zeros((3, 3, 3), bool)
    structure[1] = True
    patches, count = ndimage.label(mask, structure)
    area = np.bincount(patches.ravel(), minlength=count + 1) * place.pixel_area
    kept = area >= config.smallest
    kept[0] = False
    return kept[patches]

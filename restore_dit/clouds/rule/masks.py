"""Computes the cloud and shadow masks of a tile by the rule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restore_dit.clouds.reference import clear_reference
from restore_dit.clouds.rule.bands import rule_bands
from restore_dit.clouds.rule.cloud_tests import cloud_excess, is_bright, is_hazy, is_snow
from restore_dit.clouds.rule.patches import grown, without_specks
from restore_dit.clouds.rule.place import place_of
from restore_dit.clouds.rule.shadows import is_dark
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
"""Incremented with every change that affects masks."""

_FEWEST_DATES = 5  # minimum number of dates with data for a valid clear reference


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
    reference[:, :, (~unknown).sum(axis=0) < _FEWEST_DATES] = np.nan
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

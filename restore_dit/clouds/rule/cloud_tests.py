"""The bands that the rule uses, and its tests for cloud and snow in each pixel: brightness above the clear reference,
haze, bright pixels, snow index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from restore_dit.clouds.rule.place import Place, sun_angles
from restore_dit.config.clouds import RuleConfig
from restore_dit.errors import UserError

_SHORT = ("B02", "B03", "B04", "B05")
_NEAR_INFRARED = ("B8A", "B08")
_SHORTWAVE = ("B11",)


@dataclass(frozen=True)
class RuleBands:
    """Band names: `short`, in which cloud stands out most; `green`, in which snow is bright; `near` and `shortwave`
    infrared, in which shadow is dark. At most one of the two infrared bands may be missing."""

    short: str
    green: str
    near: str | None
    shortwave: str | None

    @property
    def used(self) -> tuple[str, ...]:
        """All of these bands, each once."""
        return tuple(dict.fromkeys(band for band in (self.short, self.green, self.near, self.shortwave) if band))


def require_rule_bands(bands: tuple[str, ...]) -> None:
    """Raises `UserError` if these bands do not suffice for the rule."""
    rule_bands(bands)


def rule_bands(bands: tuple[str, ...]) -> RuleBands:
    """The bands that the rule uses, out of those available.

    Raises:
        UserError: there is no band for detecting cloud, or none for shadow.
    """
    short = _first(_SHORT, bands)
    near, shortwave = _first(_NEAR_INFRARED, bands), _first(_SHORTWAVE, bands)
    if short is None or (near is None and shortwave is None):
        needed = _SHORT if short is None else (*_NEAR_INFRARED, *_SHORTWAVE)
        raise UserError(
            f"the cloud rule needs one of the bands {', '.join(needed)}; the tile has {', '.join(bands)}: ingest one "
            "of them, or use another method"
        )
    return RuleBands(short, "B03" if "B03" in bands else short, near, shortwave)


def _first(wanted: tuple[str, ...], bands: tuple[str, ...]) -> str | None:
    return next((band for band in wanted if band in bands), None)


Field = NDArray[np.float32]
Mask = NDArray[np.bool_]
Bands = dict[str, Field]
"""Reflectance [T, H, W] by band, NaN where unknown."""

# Largest darkening in B11 that is attributed to the ground and so also expected in the short band. It is 0 for blue and
# green, which hardly darken with B11: otherwise, shadow would be classified as cloud.
_DARKENING = {"B02": 0.0, "B03": 0.0, "B04": 0.1, "B05": 0.1}
_MIN_SNOW = 0.15  # minimum visible reflectance of snow, since water has a high index as well


def cloud_excess(now: Bands, clear: Bands, bands: RuleBands, config: RuleConfig) -> Field:
    """Reflectance of the short band beyond what changes of the ground explain [T, H, W], NaN without a reference:

    (ρ − ρ̂) − soil_share · max(ρ₁₁ − ρ̂₁₁, −darkening), with the clear reference ρ̂.

    Ploughing and drying brighten soil in all bands, most around 1.6 µm; cloud brightens the short wavelengths most.
    """
    excess = now[bands.short] - clear[bands.short]
    if bands.shortwave:
        brightening = now[bands.shortwave] - clear[bands.shortwave]
        excess -= config.soil_share * np.maximum(brightening, -_DARKENING[bands.short])
    return excess


def is_hazy(excess: Field, place: Place, config: RuleConfig) -> Mask:
    """Pixels with a small excess that extends over the whole neighbourhood: haze is wide, fields change one by one."""
    window = (0, *(2 * round(config.haze_width / side / 2) + 1 for side in place.pixel_sides))
    known = np.isfinite(excess)
    total = ndimage.uniform_filter(np.where(known, excess, 0), window, mode="nearest")
    share = ndimage.uniform_filter(known.astype(np.float32), window, mode="nearest")
    return (excess > config.haze_excess) & (total > config.haze_excess * share)


def is_bright(now: Bands, bands: RuleBands, config: RuleConfig) -> Mask:
    """Cloud detected from a single frame: bright in the short band, and darker in B11 than in the near infrared, unlike
    bare soil, sand and most roofs. Thin cloud is missed."""
    bright = now[bands.short] > config.bright
    if bands.shortwave and bands.near:
        bright &= now[bands.shortwave] < now[bands.near]
    return bright


def is_snow(now: Bands, bands: RuleBands, dates: NDArray[np.datetime64], place: Place, config: RuleConfig) -> Mask:
    """Snow: bright in the visible and dark in B11, unlike most clouds (ice clouds are similar), with the sun as low as
    in the snow season. The season is not tested if the latitude is unknown.

    The index is (B03 − B11)/(B03 + B11), the normalised difference snow index of Dozier (1989), Remote Sensing of
    Environment 28: 9–22. Without B03, the short band is used instead.
    """
    visible = now[bands.green]
    if bands.shortwave is None:
        return np.zeros(visible.shape, bool)
    shortwave = now[bands.shortwave]
    index = (visible - shortwave) / np.maximum(visible + shortwave, 1e-3)
    snow = (index > config.snow_index) & (shortwave < config.snow_b11) & (visible > _MIN_SNOW)
    if place.latitude is not None:
        zenith, _ = sun_angles(dates, place.latitude)
        snow &= (np.rad2deg(zenith) >= config.snow_sun)[:, None, None]
    return snow

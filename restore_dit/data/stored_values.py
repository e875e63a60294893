"""Converts reflectance, dB and vegetation indices to the integers that a series stores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore_dit.errors import UserError
from restore_dit.series import DECIBEL_SCALE, INDEX_SCALE, MIN_BANDS, NO_DATA, REFLECTANCE_SCALE, Acquisitions

_LARGEST = np.iinfo(np.int16).max

_PLAUSIBLE = (-0.05, 2.0)
"""Plausible range of the median reflectance of a series over land and water."""

_PLAUSIBLE_VH = (-50.0, -0.5)
"""Plausible range in dB of the median backscatter of land in VH."""

_TOO_SMALL = 0.0001
"""Medians smaller than this come from a scale that was applied twice."""

_SENTINEL, _SENTINEL_SHARE = -0.2, 0.001
"""A value below the former that makes up at least the latter share of all is one that stands for no data."""

_OFFSET = 1000
"""What Sentinel-2's processing baseline 04.00 and later add to stored reflectance × 10000."""

_OFFSET_SINCE = np.datetime64("2022-01-25", "D")
"""First day of processing baseline 04.00; earlier acquisitions have the offset only if they were processed again."""

_DARK = ("B02", "B03", "B04")
"""Bands in which some shadow, water or vegetation is dark in almost every series over land."""

_DARK_PERCENTILE, _DARK_WITH_OFFSET = 1, (1000, 1600)
"""This percentile of the darkest of these bands lies in this range if the offset was left in. Without the offset it
was 95 to 335 on eight real sites, even where 87 % is cloud; snow and cloud alone are brighter than the range."""

_MIN_DATES, _MIN_VALUES = 15, 2000
"""Shorter or smaller series may consist of thin cloud alone."""


def within_range(values: NDArray[np.floating], scale: int) -> NDArray[np.floating]:
    """The values, NaN where they exceed ±32767 steps of 1/scale. Applied before interpolation, so that neighbouring
    pixels are not affected by such values."""
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(np.rint(values * scale)) <= _LARGEST, values, np.nan)


def stored_integers(values: NDArray[np.floating], scale: int) -> NDArray[np.int16]:
    """values · scale as int16, `NO_DATA` for NaN and for values outside the range."""
    held = within_range(values, scale)
    missing = np.isnan(held)
    return np.where(missing, NO_DATA, np.rint(np.where(missing, 0.0, held) * scale).astype(np.int16))


def to_stored(
    raw: NDArray[Any],
    missing: NDArray[np.bool_],
    factor: float,
    offset: float,
    scale: int,
    limit: float,
    where: str,
    masked: NDArray[np.bool_] | None = None,
) -> NDArray[np.int16]:
    """raw · factor + offset in steps of 1/scale, `NO_DATA` where missing or not finite. Integers without factor and
    offset are taken as such steps already.

    Args:
        masked: pixels that are hidden anyway, and so have no data where they exceed the limit: saturated clouds.
        where: description of the values, for errors.

    Raises:
        UserError: values beyond ±limit, or a factor that makes them non-finite.
    """
    if raw.dtype.kind == "f":
        missing = missing | ~np.isfinite(raw)
    steps = np.where(missing, 0, raw).astype(np.float64)
    if raw.dtype.kind == "f" or (factor, offset) != (1.0, 0.0):
        steps = steps * (factor * scale) + offset * scale
    if masked is not None:
        missing = missing | (masked & ~(np.abs(steps) <= limit * scale))
        steps = np.where(missing, 0, steps)
    largest = np.abs(steps).max(initial=0) / scale
    if not largest <= limit:  # also false for NaN
        raise UserError(
            f"{where} has values up to {largest:.4g}, beyond ±{limit:g}: set its scale, offset and no-data value"
        )
    return np.where(missing, NO_DATA, np.rint(steps)).astype(np.int16)


def require_reflectance(values: NDArray[np.int16], where: str, advice: str) -> None:
    """Checks that stored values, `NO_DATA` where missing, can be reflectance.

    Args:
        where: description of the values, for errors.
        advice: what to correct.

    Raises:
        UserError: their median is implausible, or one strongly negative value is repeated.
    """
    known = values[values != NO_DATA]
    if not known.size:
        return
    median = float(np.median(known)) / REFLECTANCE_SCALE
    if not _PLAUSIBLE[0] <= median <= _PLAUSIBLE[1] or abs(median) < _TOO_SMALL:
        raise UserError(f"{where} has a median reflectance of {median:.3g}, which is implausible: {advice}")
    lowest = known.min()
    if lowest < _SENTINEL * REFLECTANCE_SCALE and (known == lowest).mean() >= _SENTINEL_SHARE:
        share = (known == lowest).mean()
        raise UserError(
            f"{where} has a reflectance of {lowest / REFLECTANCE_SCALE:.4g} at {share:.1%} of its pixels: "
            "if that stands for no data, declare it"
        )


def require_no_empty_pixels(values: NDArray[np.int16], observed: NDArray[np.bool_], where: str, advice: str) -> None:
    """Checks that observed pixels are not 0 in every band: in Sentinel-2's products, that stands for no data.

    Args:
        values: [T, C, H, W].
        observed: [T, H, W], true where a pixel is not masked.
        where: description of the values, for errors.
        advice: what to correct.

    Raises:
        UserError: 0.1 % of the pixels or more are, and there are at least three bands.
    """
    share = float(((values == 0).all(axis=1) & observed).mean()) if values.size else 0.0
    if values.shape[1] >= MIN_BANDS and share >= _SENTINEL_SHARE:
        raise UserError(f"{where} has a reflectance of 0 in every band at {share:.1%} of its pixels: {advice}")


def offset_remark(optical: Acquisitions, where: str, advice: str) -> tuple[str, ...]:
    """One line if the offset of processing baseline 04.00 was probably left in the values, otherwise nothing. Bright
    desert can look the same, so that it is no error.

    Args:
        optical: the series; the acquisitions since the baseline began are also judged on their own.
        where: description of the values.
        advice: what to correct.
    """
    dark = [index for index, band in enumerate(optical.bands) if band in _DARK]
    for first in (optical.dates[:1], _OFFSET_SINCE):
        values = optical.values[optical.dates >= first][:, dark]
        known = [band[band != NO_DATA] for band in values.swapaxes(0, 1)]
        if len(values) < _MIN_DATES or min((band.size for band in known), default=0) < _MIN_VALUES:
            continue
        darkest = min(float(np.percentile(band, _DARK_PERCENTILE)) for band in known)
        if _DARK_WITH_OFFSET[0] <= darkest < _DARK_WITH_OFFSET[1]:
            return (
                f"{where} has hardly any dark pixel: {100 - _DARK_PERCENTILE} % exceed a reflectance of "
                f"{darkest / REFLECTANCE_SCALE:.3f} in every visible band. Unless this is a desert, the offset of "
                f"processing baseline 04.00 ({_OFFSET} of {REFLECTANCE_SCALE}) was not subtracted: {advice}",
            )
    return ()


def require_backscatter(decibel: NDArray[np.floating], where: str, advice: str) -> None:
    """Checks that values in dB, NaN where missing, can be the backscatter of land in VH.

    Args:
        where: description of the values, for errors.
        advice: what to correct.

    Raises:
        UserError: their median is implausible.
    """
    if np.isnan(decibel).all():
        return
    median = float(np.nanmedian(decibel))
    if not _PLAUSIBLE_VH[0] <= median <= _PLAUSIBLE_VH[1]:
        raise UserError(f"{where} has a median of {median:.3g} dB, which is implausible for land: {advice}")


def require_stored_backscatter(radar: Acquisitions, where: str) -> None:
    """`require_backscatter` of stored values in VH, if there are any."""
    if "VH" not in radar.bands:
        return
    stored = radar.values[:, radar.bands.index("VH")]
    decibel = np.where(stored == NO_DATA, np.nan, stored / DECIBEL_SCALE)
    require_backscatter(decibel, where, "give backscatter in dB, as numbers or integers of dB × 100")


def require_more_than_bytes(dtype: np.dtype[Any], is_scaled: bool, where: str) -> None:
    """Checks that values are not bytes without a scale, which are neither reflectance × 10000 nor dB × 100.

    Raises:
        UserError: they are.
    """
    if dtype.itemsize == 1 and not is_scaled:
        raise UserError(f"{where} has the type {dtype}, whose values mean nothing without a scale factor")


def index_to_stored(index: NDArray[np.floating]) -> NDArray[np.int16]:
    """A vegetation index between -1 and 1 in steps of 1/`INDEX_SCALE`, `NO_DATA` where it is undefined."""
    known = np.isfinite(index)
    return np.where(known, np.rint(INDEX_SCALE * np.where(known, index, 0).clip(-1, 1)), NO_DATA).astype(np.int16)

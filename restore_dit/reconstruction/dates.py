"""Dates that a user asks for, with or without an acquisition, and what a filled pixel rests on.

A date without an acquisition is filled as one on which everything is hidden. It gets what the orbit that passes on that
day would see, or the mean of the orbits if none does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from restore_dit.errors import UserError
from restore_dit.series import (
    CLOUD_NO_DATA,
    NO_DATA,
    PROVENANCE,
    SAMPLES,
    SUSPECT,
    UNCERTAINTY,
    Acquisitions,
    Provenance,
    TileSeries,
)

HORIZON = 60
"""Maximum number of days between a date that is asked for and the first or last acquisition, if it lies outside."""

MOST_DATES = 4000
"""Maximum number of dates of a regular series."""

MONTHLY = "month"
"""Instead of a number of days: the 15th of every month."""

_FAR, _FEW = 180, 2
"""A pixel without an observation within so many days, or with fewer observations in all, is unknown."""

_OF_FRAMES = (UNCERTAINTY, PROVENANCE, SUSPECT, SAMPLES)
"""The layers whose first dimension is that of the dates."""


def dates_wanted(
    acquired: NDArray[np.datetime64], dates: Sequence[object] = (), every: int | str | None = None
) -> NDArray[np.datetime64] | None:
    """The dates to fill, ascending; None if neither `dates` nor `every` is given: then those that were acquired.

    Args:
        acquired: [T] ascending dates of the acquisitions.
        dates: ISO dates, or objects that are shown as such.
        every: a number of days, counted from 1 January of the first year so that neighbouring areas share their dates,
            or `month` for the 15th of every month. The dates lie between the first and the last acquisition.

    Raises:
        UserError: both are given, one is not a date or a number of days, a date is given twice or lies more than
            `HORIZON` days outside the acquisitions, or no date is left.
    """
    wanted = require_dates(dates, every)
    first, last = acquired[0].astype("datetime64[D]"), acquired[-1].astype("datetime64[D]")
    if every is not None and every != "":
        return _regular(first, last, str(every))
    if not len(wanted):
        return None
    for one, beyond in ((wanted[0], first - wanted[0]), (wanted[-1], wanted[-1] - last)):
        if beyond > np.timedelta64(HORIZON, "D"):
            raise UserError(
                f"dates: {one} lies {beyond.astype(int)} days outside the acquisitions ({first} to {last}); at most "
                f"{HORIZON} days can be extrapolated"
            )
    return wanted


def require_dates(dates: Sequence[object] = (), every: int | str | None = None) -> NDArray[np.datetime64]:
    """The given `dates` of `dates_wanted`, ascending, after checking all that can be checked without a series.

    Raises:
        UserError: both are given, one is not a date or a number of days, or a date is given twice.
    """
    step = "" if every is None else str(every)
    if isinstance(dates, str) or not np.iterable(dates):
        raise UserError(f"dates: give a list of dates, such as [{str(dates)[:20]!r}]")
    if step and len(dates):
        raise UserError("dates and every: give only one of them")
    if step not in ("", MONTHLY) and not (step.isascii() and step.isdigit() and 1 <= int(step) <= 366):
        raise UserError(f"every={step[:20]}: must be a number of days from 1 to 366, or {MONTHLY}")
    wanted = np.sort(np.array([_day(str(one)) for one in dates], "datetime64[D]"))
    if (wanted[1:] == wanted[:-1]).any():
        raise UserError(f"dates: {wanted[1:][wanted[1:] == wanted[:-1]][0]} is given twice")
    return wanted


def _day(text: str) -> np.datetime64:
    if re.fullmatch(r"\d{4}-\d\d-\d\d([T ].*)?", text):
        with suppress(ValueError):
            return np.datetime64(text[:10], "D")
    raise UserError(f"dates: {text[:40]!r} is not an ISO date such as 2019-06-30")


def _regular(first: np.datetime64, last: np.datetime64, every: str) -> NDArray[np.datetime64]:
    january = first.astype("datetime64[Y]").astype("datetime64[D]")
    if every == MONTHLY:
        months = np.arange(january.astype("datetime64[M]"), last.astype("datetime64[M]") + 1)
        days = (months.astype("datetime64[D]") - january).astype(np.int64) + 14
    else:
        days = np.arange(0, (last - january).astype(np.int64) + 1, int(every))
    dates = january + days.astype("timedelta64[D]")
    dates = dates[(dates >= first) & (dates <= last)]
    if not len(dates):
        raise UserError(f"every={every}: no such date lies between {first} and {last}; give `dates` instead")
    if len(dates) > MOST_DATES:
        raise UserError(f"every={every}: makes {len(dates)} dates, more than {MOST_DATES}; choose a longer step")
    return dates


def with_dates(series: TileSeries, dates: NDArray[np.datetime64]) -> TileSeries:
    """The series with a frame without data on each of the dates that it lacks."""
    optical = series.optical
    days = optical.dates.astype("datetime64[D]")
    together = np.union1d(days, dates)
    place = np.searchsorted(together, days)
    values = np.full((len(together), *optical.values.shape[1:]), NO_DATA, np.int16)
    values[place] = optical.values
    clouds = None
    if series.clouds is not None:
        clouds = np.full((len(together), *series.size), CLOUD_NO_DATA, np.uint8)
        clouds[place] = series.clouds
    return replace(
        series, optical=Acquisitions(values, together, optical.bands), clouds=clouds, layers={}, other_clouds={}
    )


def at_dates(series: TileSeries, dates: NDArray[np.datetime64] | None) -> TileSeries:
    """The series on these dates, without data where it lacks one; unchanged if no dates are given."""
    if dates is None:
        return series
    if not np.isin(dates, series.optical.dates.astype("datetime64[D]")).all():
        series = with_dates(series, dates)
    chosen = np.searchsorted(series.optical.dates.astype("datetime64[D]"), dates)
    layers = {name: layer[chosen] if name in _OF_FRAMES else layer for name, layer in series.layers.items()}
    clouds = None if series.clouds is None else series.clouds[chosen]
    optical = series.optical.select(chosen)
    return replace(series, optical=optical, clouds=clouds, layers=layers, other_clouds={})


def provenance_of_pixels(gaps: NDArray[np.bool_], dates: NDArray[np.datetime64]) -> NDArray[np.uint8]:
    """What each pixel rests on, [T, H, W] of `Provenance`.

    gaps: [T, H, W] true where a pixel is not observed. dates: [T] ascending.
    """
    days = dates.astype("datetime64[D]").astype(np.int64)
    far = np.iinfo(np.int32).max // 4
    before, after = (np.full(gaps.shape, far, np.int32) for _ in range(2))
    for nearest, order in ((before, range(len(gaps))), (after, range(len(gaps) - 1, -1, -1))):
        last = np.full(gaps.shape[1:], far, np.int32)
        previous = days[order[0]]
        for frame in order:
            last = np.where(gaps[frame], np.minimum(last + np.int32(abs(days[frame] - previous)), far), 0)
            previous = days[frame]
            nearest[frame] = last
    known = (~gaps).sum(axis=0) >= _FEW
    found = np.full(gaps.shape, Provenance.FILLED, np.uint8)
    found[np.maximum(before, after) >= far] = Provenance.EXTRAPOLATED
    found[(np.minimum(before, after) > _FAR) | ~known] = Provenance.UNKNOWN
    found[~gaps] = Provenance.OBSERVED
    return found

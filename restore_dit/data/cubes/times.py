"""Acquisition times of a file's images, in whatever form the file or its name states them, and grouping by overpass.

Dates in file names are parsed with the mapping's format or with the only order that fits all names.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray
from numpy.typing import NDArray
from xarray.conventions import decode_cf_variable

from restore_dit.errors import UserError

EARLIEST, LATEST = np.datetime64("1980-01-01"), np.datetime64("2100-01-01")
"""Plausible range of acquisition times."""

OVERPASS = np.timedelta64(15, "m")
"""Images less than this after the first one belong to the same overpass; the next overpass is more than an hour
later."""

_NUMBERS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
"""Number of digits → date format."""


def acquisition_times(dataset: xarray.Dataset, uri: str, name: str) -> NDArray[np.datetime64]:
    """Times as datetime64[s] [T] in UTC, in the file's order.

    Args:
        dataset: a file's content as stored.
        uri: the file, for errors.
        name: its date coordinate: numbers with CF units, ISO 8601 text, or whole numbers such as YYYYMMDD.

    Raises:
        UserError: the values are not dates, an acquisition has no date, or a date lies outside the satellite era.
    """
    given = dataset.variables[name]
    try:
        stored = decode_cf_variable(name, given.to_base_variable(), decode_timedelta=False).values
    except (ValueError, TypeError, OverflowError):  # units that are not times, or numbers outside the calendar
        stored = given.values
    stored = np.atleast_1d(stored)
    times = _times(stored)
    if times is None:
        calendar = given.attrs.get("calendar", "usual")
        raise UserError(
            f"{uri}: {name} contains no dates of the standard calendar, but {stored.dtype} such as "
            f"{str(stored[0])!r:.40}, calendar {calendar}: use units such as 'days since 2018-01-01' of the standard "
            "calendar, or write dates as 2019-01-31 or 20190131"
        )
    missing = int(np.isnat(times).sum())
    if missing:
        raise UserError(f"{uri}: {missing} of {len(times)} acquisitions have no date in {name}: fix the file")
    if ((times < EARLIEST) | (times >= LATEST)).any():
        raise UserError(
            f"{uri}: {name} ranges from {times.min()} to {times.max()}, outside the satellites' lifetime: fix its units"
        )
    return times


def _times(stored: NDArray[Any]) -> NDArray[np.datetime64] | None:
    if stored.dtype.kind == "M":
        return stored.astype("datetime64[s]")
    if stored.dtype.kind == "f" and np.isfinite(stored).all() and (stored == np.rint(stored)).all():
        stored = stored.astype(np.int64)
    if stored.dtype.kind not in "iuOSUT":
        return None
    given = [one.isoformat() if isinstance(one, datetime.date) else one for one in stored.tolist()]
    if not all(isinstance(one, int | str | bytes) for one in given):
        return None  # dates of another calendar
    texts = [one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in given]
    lengths = {len(text) if re.fullmatch(r"[0-9]+", text) else 0 for text in texts}
    length = lengths.pop() if len(lengths) == 1 else 0
    if stored.dtype.kind in "iu" and length not in _NUMBERS:
        return None
    texts = [re.sub(r"\s*(UTC|GMT)$", "Z", text.strip()) for text in texts]
    try:
        found = pd.to_datetime(pd.Series(texts), format=_NUMBERS.get(length, "ISO8601"), utc=True)
    except (ValueError, TypeError, OverflowError):
        return None
    return found.dt.tz_localize(None).to_numpy("datetime64[s]")


def repeated_apart(times: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    """The same times as datetime64[us], with the second image of the same second one microsecond later, and so on.

    This keeps images of the same second in one file distinct and still matches them with their counterparts in another.
    """
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    first = np.searchsorted(ordered, ordered, side="left")
    apart = times.astype("datetime64[us]")
    apart[order] += (np.arange(len(times)) - first).astype("timedelta64[us]")
    return apart


def overpass_days(times: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    """The day of each acquisition [N]: that on which its overpass began.

    A time of exactly midnight is a date without a time of day, and never the end of the previous day's overpass.
    """
    # In order of time, since whether an image belongs to an overpass depends on when that began.
    order = np.argsort(times, kind="stable")
    days = times.astype("datetime64[D]")
    begin: np.datetime64 | None = None
    for index in order:
        time = times[index]
        if time.astype("datetime64[s]") == days[index]:
            continue
        if begin is None or time - begin >= OVERPASS:
            begin = time
        else:
            days[index] = begin.astype("datetime64[D]")
    return days


_CLOCK = r"(?:[T_ -]?(?P<H>\d{2})[:-]?(?P<M>\d{2})(?:[:-]?(?P<S>\d{2})(?:\.\d+)?)?Z?)?"
_ORDERS = {
    "year-month-day": re.compile(rf"(?P<Y>\d{{4}})([-_./]?)(?P<m>\d{{2}})\2(?P<d>\d{{2}}){_CLOCK}"),
    "year-day of the year": re.compile(rf"(?P<Y>\d{{4}})[-_./]?(?P<j>\d{{3}}){_CLOCK}"),
    "day-month-year": re.compile(rf"(?P<d>\d{{2}})([-_./]?)(?P<m>\d{{2}})\2(?P<Y>\d{{4}}){_CLOCK}"),
    "month-day-year": re.compile(rf"(?P<m>\d{{2}})([-_./]?)(?P<d>\d{{2}})\2(?P<Y>\d{{4}}){_CLOCK}"),
}
"""Supported orders of digits; two-digit years would be ambiguous."""


def dates_in_names(texts: Sequence[str], date_format: str | None, names: Sequence[str]) -> NDArray[np.datetime64]:
    """Times as datetime64[s] [N] parsed from parts of file names.

    Args:
        texts: what the mapping's pattern captured in each name.
        date_format: strptime format; None for the one order that fits all texts.
        names: the files, for errors.

    Raises:
        UserError: a text is not a date, or the texts are ambiguous.
    """
    if date_format is not None:
        return np.array([_stated(text, date_format, name) for text, name in zip(texts, names, strict=True)])
    for text, name in zip(texts, names, strict=True):
        if all(_read(text, order) is None for order in _ORDERS):
            raise UserError(
                f"{name}: {text!r} in its name is not a date: correct the mapping's `date`, or set its `date_format`, "
                "such as '%d%b%Y'"
            )
    # All names decide together: 05-03 alone may be either, but some name of a series usually has a day above 12.
    found = {order: [_read(text, order) for text in texts] for order in _ORDERS}
    fitting = {order: dates for order, dates in found.items() if None not in dates}
    if len({tuple(dates) for dates in fitting.values()}) != 1:
        fault = f"fit {' and '.join(fitting)}" if fitting else "fit no single order of day, month and year"
        raise UserError(
            f"{names[0]}: the dates in the names, such as {texts[0]}, {fault}: set the mapping's `date_format`, such "
            "as '%d-%m-%Y'"
        )
    return np.array(next(iter(fitting.values())), "datetime64[s]")


def _stated(text: str, date_format: str, name: str) -> np.datetime64:
    try:
        found = datetime.datetime.strptime(text, date_format)
    except ValueError:
        raise UserError(
            f"{name}: {text!r} in its name is not a date of the form {date_format}: correct the mapping's `date` or "
            "`date_format`"
        ) from None
    if found.tzinfo is not None:
        found = found.astimezone(datetime.UTC).replace(tzinfo=None)
    return np.datetime64(found, "s")


def _read(text: str, order: str) -> np.datetime64 | None:
    """The date if the text's digits come in this order; None if that is not a date in the satellite era."""
    match = _ORDERS[order].fullmatch(text)
    if match is None:
        return None
    part = {name: int(digits) for name, digits in match.groupdict().items() if digits is not None}
    clock = datetime.time(0)
    try:
        if "j" in part:
            day = datetime.date(part["Y"], 1, 1) + datetime.timedelta(days=part["j"] - 1)
            if part["j"] < 1 or day.year != part["Y"]:
                return None
        else:
            day = datetime.date(part["Y"], part["m"], part["d"])
        if "H" in part:
            clock = datetime.time(part["H"], part["M"], part.get("S", 0))
    except ValueError:
        return None
    found = np.datetime64(datetime.datetime.combine(day, clock), "s")
    return found if EARLIEST <= found < LATEST else None

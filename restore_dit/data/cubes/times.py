"""Acquisition times of a file's images, in whatever form the file states them, and grouping by overpass."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import xarray
from numpy.typing import NDArray

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
    try:
        stored = xarray.decode_cf(dataset[[name]], decode_coords=False, decode_timedelta=False)[name].values
    except (ValueError, TypeError, OverflowError):  # units that are not times, or numbers outside the calendar
        stored = dataset[name].values
    stored = np.atleast_1d(stored)
    times = _times(stored)
    if times is None:
        calendar = dataset[name].attrs.get("calendar", "usual")
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
    if not all(isinstance(one, int | str | bytes) for one in stored.tolist()):
        return None  # dates of another calendar
    texts = [one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in stored.tolist()]
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

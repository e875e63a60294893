"""When a file's images were acquired, however the file says it, and which of them one overpass made."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import xarray
from numpy.typing import NDArray

from restore_dit.errors import UserError

EARLIEST, LATEST = np.datetime64("1980-01-01"), np.datetime64("2100-01-01")
"""Outside of these no satellite of these acquired anything."""

OVERPASS = np.timedelta64(15, "m")
"""What lies less than this after the first image belongs to the same overpass; the next one comes more than an hour
later."""

_NUMBERS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
"""Digits of a number or text → what they say."""


def acquisition_times(dataset: xarray.Dataset, uri: str, name: str) -> NDArray[np.datetime64]:
    """Times as datetime64[s] [T] in UTC, in the file's order.

    Args:
        dataset: a file's content as it is stored.
        uri: the file, for errors.
        name: its coordinate with dates: numbers with CF's units, texts in ISO 8601, or whole numbers such as YYYYMMDD.

    Raises:
        UserError: something else, an acquisition without a date, or one long before or after there were satellites.
    """
    try:
        stored = xarray.decode_cf(dataset[[name]], decode_coords=False, decode_timedelta=False)[name].values
    except (ValueError, TypeError, OverflowError):  # units that mean no time, or numbers beyond the calendar
        stored = dataset[name].values
    stored = np.atleast_1d(stored)
    times = _times(stored)
    if times is None:
        calendar = dataset[name].attrs.get("calendar", "usual")
        raise UserError(
            f"{uri}: {name} holds no dates of our calendar, but {stored.dtype} such as {str(stored[0])!r:.40}, "
            f"calendar {calendar}: give it units such as 'days since 2018-01-01' of the standard calendar, or write "
            "dates as 2019-01-31 or 20190131"
        )
    missing = int(np.isnat(times).sum())
    if missing:
        raise UserError(f"{uri}: {missing} of {len(times)} acquisitions have no date in {name}: mend the file")
    if ((times < EARLIEST) | (times >= LATEST)).any():
        raise UserError(
            f"{uri}: {name} goes from {times.min()} to {times.max()}, which no satellite of these did: mend its units"
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
    """The same times as datetime64[us], where the second image of a second comes a microsecond later, and so on.

    So images of the same second stay apart in one file, and still meet their counterparts in another.
    """
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    first = np.searchsorted(ordered, ordered, side="left")
    apart = times.astype("datetime64[us]")
    apart[order] += (np.arange(len(times)) - first).astype("timedelta64[us]")
    return apart


def overpass_days(times: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    """The day of each acquisition [N]: that on which its overpass began.

    A time of midnight to the second is a date without a clock, and never the end of yesterday's overpass.
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

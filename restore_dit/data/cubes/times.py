"""When a file's images were acquired, however the file says it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from restore_dit.errors import UserError


def acquisition_times(stored: NDArray[Any], uri: str, name: str) -> NDArray[np.datetime64]:
    """Times as datetime64[s] [T], in the file's order.

    Args:
        stored: what the coordinate holds: dates, texts in ISO 8601, or whole numbers YYYYMMDD.
        uri: the file, for errors.
        name: the coordinate, for errors.

    Raises:
        UserError: something else, or an acquisition without a date.
    """
    times = _times(stored)
    if times is None:
        raise UserError(
            f"{uri}: {name} holds no dates of the usual calendar, but {stored.dtype} such as {_example(stored)}: give "
            "it units such as 'days since 2018-01-01', or write dates as 2019-01-31 or 20190131"
        )
    missing = int(np.isnat(times).sum())
    if missing:
        raise UserError(f"{uri}: {missing} of {len(times)} acquisitions have no date in {name}: mend the file")
    return times


def _times(stored: NDArray[Any]) -> NDArray[np.datetime64] | None:
    if stored.dtype.kind == "M":
        return stored.astype("datetime64[s]")
    if stored.dtype.kind in "iu" and len(stored) and stored.min() >= 19_000_101 and stored.max() <= 21_001_231:
        texts = [str(number) for number in stored.tolist()]
        form: str = "%Y%m%d"
    elif stored.dtype.kind in "OSUT":
        texts = [text.decode(errors="replace") if isinstance(text, bytes) else str(text) for text in stored.tolist()]
        form = "%Y%m%d" if all(len(text) == 8 and text.isdigit() for text in texts) else "ISO8601"
    else:
        return None
    try:
        return pd.to_datetime(pd.Series(texts), format=form, utc=True).dt.tz_localize(None).to_numpy("datetime64[s]")
    except (ValueError, TypeError, OverflowError):
        return None


def _example(stored: NDArray[Any]) -> str:
    return repr(str(stored[0]))[:40] if len(stored) else "none"


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

"""Dates in file names, parsed with the mapping's format or with the only order that fits all names."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.cubes.times import EARLIEST, LATEST
from restore_dit.errors import UserError

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

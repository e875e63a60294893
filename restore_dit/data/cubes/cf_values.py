"""Interprets a variable's stored values by its attributes according to the NetCDF and CF conventions: no data, unsigned
integers, and scale and offset of packed values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import netCDF4
import numpy as np
from numpy.typing import NDArray

from restore_dit.errors import UserError

_FILLS = ("_FillValue", "missing_value", "nodata")


def stored_numbers(
    values: NDArray[Any], attributes: Mapping[str, Any], where: str
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The stored numbers, unsigned where `_Unsigned` says so, and a mask of those that are no data: not finite, equal
    to a fill value (the library's default if the variable has none), or outside the valid range.

    Args:
        values: integers or floating-point numbers as stored in the file.
        attributes: attributes of their variable.
        where: file and variable, for errors.

    Raises:
        UserError: an attribute is not a number.
    """
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    signed = values.dtype
    kind = {"true": "u", "false": "i"}.get(str(attributes.get("_Unsigned")).lower())
    reinterpreted = kind is not None and signed.kind in "iu"
    if reinterpreted:
        values = values.view(f"{kind}{signed.itemsize}")

    def stated(name: str) -> NDArray[Any]:
        found = attribute_numbers(attributes, name, where)
        # NetCDF 3 has no unsigned types: attributes are written signed, and are meant as the values are.
        if reinterpreted and found.dtype.kind in "iu":
            return found.astype(signed).view(values.dtype)  # 65535 may be written as -1
        return found

    missing = ~np.isfinite(values)
    for name in _FILLS:
        missing |= among(values, stated(name))
    if "_FillValue" not in attributes and signed.itemsize > 1:  # for bytes, every value may be valid
        default = netCDF4.default_fillvals.get(signed.str[1:])
        missing |= among(values, np.array([] if default is None else [default], signed).view(values.dtype))
    limits = [stated(name) for name in ("valid_range", "valid_min", "valid_max")]
    least, most = limits[0] if limits[0].size == 2 else (-np.inf, np.inf)
    least, most = (one[0] if one.size else other for one, other in zip(limits[1:], (least, most), strict=True))
    compared: NDArray[Any] = values
    if values.dtype.kind in "iu" and any(one.dtype.kind == "f" for one in limits):
        # Floating-point limits of packed integers refer to the unpacked values.
        scale, offset = scale_and_offset(attributes, 1, where)
        compared = values * scale + offset
    return values, missing | (compared < least) | (compared > most)


def attribute_numbers(attributes: Mapping[str, Any], name: str, where: str) -> NDArray[Any]:
    """The numbers of an attribute [n], empty if it is absent.

    Raises:
        UserError: the attribute is not a number.
    """
    stated = np.ravel(np.asarray([] if attributes.get(name) is None else attributes[name]))
    try:
        return stated if stated.dtype.kind in "iuf" else stated.astype(np.float64)
    except (ValueError, TypeError):
        raise UserError(f"{where}: {name} {str(attributes[name])[:40]!r} is not a number: fix the file") from None


def scale_and_offset(
    attributes: Mapping[str, Any], images: int, where: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`scale_factor` and `add_offset`, 1 and 0 where absent: one for all images [1], or one per image [images].

    Raises:
        UserError: one of them is not a number, or their count does not match the images.
    """
    found = []
    for name, otherwise in (("scale_factor", 1.0), ("add_offset", 0.0)):
        stated = attribute_numbers(attributes, name, where).astype(np.float64)
        if stated.size not in (0, 1, images) or not np.isfinite(stated).all():
            raise UserError(f"{where}: {name} {str(attributes[name])[:40]!r} is not a number: fix the file")
        found.append(stated if stated.size else np.array([otherwise]))
    return found[0], found[1]


def among(values: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.bool_]:
    """Which values are among the wanted ones. Floating-point numbers are compared in the shorter of the two types, so
    that 1e20 as a double equals 1e20 as a float."""
    if values.dtype.kind == "f" and wanted.dtype.kind == "f":
        shorter = min(values.dtype, wanted.dtype, key=lambda one: one.itemsize)
        with np.errstate(over="ignore"):
            values, wanted = values.astype(shorter, copy=False), wanted.astype(shorter, copy=False)
    return np.isin(values, wanted)

"""Reads an array from the bytes of a `.npy` file. Nothing is ever unpickled."""

from __future__ import annotations

import io
import math
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from restore_dit.errors import UserError


def read_npy(content: bytes, origin: str) -> NDArray[Any]:
    """The array, read-only, as a view of the bytes.

    Raises:
        UserError: not a `.npy` file, pickled objects, or more or fewer bytes than its header says.
    """
    stream = io.BytesIO(content)
    try:
        version = npy_format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = npy_format.read_array_header_1_0(stream)
        else:
            shape, fortran, dtype = npy_format.read_array_header_2_0(stream)
    except (ValueError, SyntaxError, TypeError, TokenError) as error:
        why = "it is empty" if not content else " ".join(str(error).split())[:120]
        raise UserError(f"{origin}: not a .npy file ({why}); fetch it again") from None
    if dtype.hasobject:
        raise UserError(f"{origin}: contains pickled Python objects, which are never loaded; fetch the published file")
    if not dtype.itemsize or not all(type(length) is int and length >= 0 for length in shape):
        raise UserError(f"{origin}: not a .npy file ({str(shape)[:60]} of {dtype} is not an array); fetch it again")
    expected = math.prod(shape) * dtype.itemsize
    found = len(content) - stream.tell()
    if found != expected:
        state = "truncated" if found < expected else "too long"
        raise UserError(f"{origin}: {state}: {found} bytes of pixels instead of {expected}; fetch it again")
    values = np.frombuffer(content, dtype, offset=stream.tell())
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def npy_bytes(values: NDArray[Any]) -> bytes:
    """The content of a `.npy` file."""
    stream = io.BytesIO()
    npy_format.write_array(stream, np.ascontiguousarray(values), allow_pickle=False)
    return stream.getvalue()

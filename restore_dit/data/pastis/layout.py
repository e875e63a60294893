"""Names, types and shapes of PASTIS-R as published (Zenodo record 5735646), with the additions of RESTORE-DiT's
authors; and its arrays, `.npy` files, of which nothing is ever unpickled."""

from __future__ import annotations

import io
import math
from tokenize import TokenError
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from restore_dit.errors import UserError

METADATA = "metadata.geojson"
BAD_FRAMES = "bad_frames.json"
ARCHIVE_FOLDER = "PASTIS-R"
"""Folder that the published ZIP unpacks to."""

CRS = "EPSG:2154"
"""Lambert-93, the CRS of the footprints in `metadata.geojson`. The pixels themselves follow each tile's UTM zone."""

PIXEL = 10.0
"""Pixel size in metres."""

PATCH_SIZE = 128

Sensor = Literal["S2", "S1A", "S1D"]
TRACKS: tuple[Literal["S1A", "S1D"], ...] = ("S1A", "S1D")

UTM_ORIGINS = {
    "t30uxv": ("EPSG:32630", 600_000.0, 5_500_000.0),
    "t31tfj": ("EPSG:32631", 600_000.0, 4_900_000.0),
    "t31tfm": ("EPSG:32631", 600_000.0, 5_200_000.0),
    "t32ulu": ("EPSG:32632", 300_000.0, 5_400_000.0),
}
"""The four Sentinel-2 tiles → CRS and upper left corner of their MGRS square in metres."""

TILES = tuple(UTM_ORIGINS)
"""A patch's number begins with its tile's position in this list, counted from 1: 10000 lies in t30uxv, 40561 in
t32ulu."""


def data_file(sensor: str, patch: str) -> str:
    """Series of one sensor: int16 [T, 10, H, W] in reflectance × 10000, or float [T, 3, H, W] in dB."""
    return f"DATA_{sensor}/{sensor}_{patch}.npy"


def labels_file(patch: str) -> str:
    """Labels uint8 [3, H, W]; the first channel is the crop: 0 background, 1–18 crops, 19 void."""
    return f"ANNOTATIONS/TARGET_{patch}.npy"


def parcel_ids_file(patch: str) -> str:
    """Parcel ids int32 [H, W], 0 for none."""
    return f"ANNOTATIONS/ParcelIDs_{patch}.npy"


def instance_file(kind: Literal["INSTANCES", "HEATMAP", "ZONES"], patch: str) -> str:
    """Instance annotations [H, W]: parcels numbered within the patch, centredness from 0 to 1, or nearest parcel of
    each pixel."""
    return f"INSTANCE_ANNOTATIONS/{kind}_{patch}.npy"


def cloud_file(patch: str) -> str:
    """Cloud masks int8 [T, 1, H, W]: 0 clear, 1 thick cloud, 2 thin cloud, 3 shadow. Not in the archive; added by
    RESTORE-DiT."""
    return f"REAL_MASKS/{patch}.npy"


def normalisation_file(sensor: str) -> str:
    """`{"Fold_1": {"mean": […], "std": […]}, …}`, one entry per channel."""
    return f"NORM_{sensor}_patch.json"


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

"""Positions of each acquisition's bytes in a file of a tile store, so that readers fetch only what they need."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from restore_dit.data.store.frame_codec import CODEC

DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in ("int16", "int32", "uint8")}
"""Supported data types of a frame's pixels."""


@dataclass(frozen=True)
class FrameIndex:
    """The frames of one sensor or layer of a tile: their contents and positions in the file.

    `shape` is [T, …]; `dates` datetime64[D] [T], or empty for data without time; `offsets`, `lengths` and `checksums`
    (CRC-32 of the compressed bytes) are int64 [number of frames].
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    bands: tuple[str, ...]
    dates: NDArray[np.datetime64]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    checksums: NDArray[np.int64]

    def to_json(self) -> dict[str, Any]:
        """The form stored in the file's metadata."""
        return {
            "codec": CODEC,
            "dtype": str(self.dtype),
            "shape": list(self.shape),
            "bands": list(self.bands),
            "dates": self.dates.astype(str).tolist(),
            "offsets": self.offsets.tolist(),
            "lengths": self.lengths.tolist(),
            "checksums": self.checksums.tolist(),
        }

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> FrameIndex:
        """The index written by `to_json`.

        Raises:
            ValueError, KeyError, TypeError: the content is invalid, or uses an encoding that this version does not
                support.
        """
        if tree["codec"] != CODEC or tree["dtype"] not in DTYPES:
            raise ValueError(f"frames as {tree['codec']} {tree['dtype']}")
        positions = [np.array(tree[name], np.int64) for name in ("offsets", "lengths", "checksums")]
        shape = tuple(int(length) for length in tree["shape"])
        frames = shape[0] if len(shape) > 2 else 1
        if any(len(values) != frames for values in positions) or any((values < 0).any() for values in positions):
            raise ValueError(f"{frames} frames with {', '.join(str(len(values)) for values in positions)} positions")
        dates = np.array(tree["dates"], "datetime64[D]")
        return cls(DTYPES[tree["dtype"]], shape, tuple(tree["bands"]), dates, *positions)


def frame_checksum(encoded: bytes | pa.Buffer) -> int:
    """CRC-32 of a frame's compressed bytes."""
    return zlib.crc32(encoded)

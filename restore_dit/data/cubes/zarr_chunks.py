"""Detects truncated chunks of Zarr stores, which Blosc silently decodes into arbitrary memory contents."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable
from typing import Any

from restore_dit.errors import UserError

_HEADER = 16
_METADATA = (".zarray", "zarr.json")


def require_whole_chunks(uri: str, paths: Iterable[str], read: Callable[[str, int | None], tuple[bytes, int]]) -> None:
    """Compares the length of every Blosc chunk with the length in its header.

    Args:
        uri: the store, for errors.
        paths: all its files, relative to it.
        read: (path, number of bytes or None for all) → that many first bytes of the file, and its size.

    Raises:
        UserError: a chunk is shorter or longer than its header says.
    """
    files = list(paths)
    arrays = [
        folder
        for folder, _, name in (path.rpartition("/") for path in files)
        if name in _METADATA and _is_blosc(read(f"{folder}/{name}" if folder else name, None)[0])
    ]
    for path in files:
        is_chunk = path.rpartition("/")[2] not in (*_METADATA, ".zattrs")
        if is_chunk and any(path.startswith(f"{folder}/") for folder in arrays):
            header, size = read(path, _HEADER)
            # Bytes 12 to 15 of a Blosc chunk: its length in compressed bytes.
            if len(header) < _HEADER or struct.unpack_from("<I", header, 12)[0] != size:
                raise UserError(
                    f"{uri}: chunk {path} is truncated to {size} bytes: download or convert the store again"
                )


def _is_blosc(metadata: bytes) -> bool:
    """Whether an array's chunks are stored as plain Blosc; inside a shard they have a checksum."""
    try:
        tree: dict[str, Any] = json.loads(metadata)
    except ValueError:
        return False  # opening the store reports this
    compressor = tree.get("compressor") or {}
    codecs = tree.get("codecs") or [{}]
    return compressor.get("id") == "blosc" or codecs[-1].get("name") == "blosc"

"""Opens NetCDF files and Zarr stores as xarray datasets, from local folders and object storage alike.

It also detects truncated chunks of Zarr stores, which Blosc silently decodes into arbitrary memory contents, and HDF5
files (every NetCDF 4 file is one) that refer to others. Three features make the library open other files, at any path,
and return their contents: external storage, virtual datasets, and links to other files. Files of unknown origin must
not use any of them.
"""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import xarray
from pyarrow import fs

from restore_dit.data import storage
from restore_dit.data.storage.failures import explained
from restore_dit.errors import UserError


@contextmanager
def open_dataset(location: storage.Location) -> Iterator[xarray.Dataset]:
    """Opens a NetCDF file or Zarr store without loading images. Values, including dates, are left as stored.

    Raises:
        UserError: not found, or damaged.
    """
    if not storage.exists(location):
        raise UserError(f"{location.uri}: not found: check the path")
    kind = "Zarr" if location.name.lower().endswith(".zarr") else "NetCDF"
    with readable(location.uri, kind):
        dataset = _open_zarr(location) if kind == "Zarr" else _open_netcdf(location)
    with dataset:
        yield dataset


def _open_netcdf(location: storage.Location) -> xarray.Dataset:
    # Unlike HDF5 alone, the NetCDF library also reads classic files and zstd, Blosc and szip compression.
    return _open(location.path if location.is_local else storage.read_bytes(location), engine="netcdf4")


def _open_zarr(location: storage.Location) -> xarray.Dataset:
    paths = _files(location)
    if location.is_local:

        def read_local(path: str, count: int | None) -> tuple[bytes, int]:
            file = Path(location.path, path)
            with file.open("rb") as stream:
                return stream.read(-1 if count is None else count), file.stat().st_size

        require_whole_chunks(location.uri, paths, read_local)
        return _with_fill_values(_open(location.path, engine="zarr"))
    import zarr.storage
    from zarr.core.buffer import default_buffer_prototype

    # A cube of one site is small enough to be held in memory, as NetCDF files are.
    content = {path: storage.read_bytes(location.join(path)) for path in paths}

    def read(path: str, count: int | None) -> tuple[bytes, int]:
        return content[path][:count], len(content[path])

    require_whole_chunks(location.uri, paths, read)
    buffer = default_buffer_prototype().buffer
    store = zarr.storage.MemoryStore({path: buffer.from_bytes(one) for path, one in content.items()})
    return _with_fill_values(_open(store, engine="zarr"))


def _with_fill_values(dataset: xarray.Dataset) -> xarray.Dataset:
    """Declares the fill value of chunks that were never written as no data, through the variables' `_FillValue`.

    Not for Zarr 3 if it is 0, the default of every array, which may be a valid value. For Zarr 2 a 0 does count, except
    for coordinates: the first date may be day 0.
    """
    for array in dataset.variables.values():
        never_written = array.encoding.get("fill_value")
        if array.dtype.kind in "iuf" and never_written:
            array.attrs.setdefault("_FillValue", never_written)
        if array.ndim < 2 and array.dtype.kind in "iuf" and array.attrs.get("_FillValue") == 0:
            del array.attrs["_FillValue"]
    return dataset


def _files(folder: storage.Location) -> list[str]:
    """Paths of all files below a folder, including hidden ones: Zarr 2 keeps its metadata in `.zarray`."""
    with explained(folder.uri, "list"):
        entries = folder.filesystem.get_file_info(fs.FileSelector(folder.path, recursive=True))
    return [entry.path[len(folder.path) :].lstrip("/") for entry in entries if entry.type == fs.FileType.File]


def _open(source: Any, **options: Any) -> xarray.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # about fill values in coordinates and unconsolidated metadata, which the user's files may have
        # Attributes of these files may be arrays, so this package decodes them itself instead of xarray.
        return xarray.open_dataset(source, mask_and_scale=False, decode_times=False, decode_coords=False, **options)


@contextmanager
def readable(uri: str, kind: str = "NetCDF") -> Iterator[None]:
    """Context that turns the various exceptions that xarray and its libraries raise for damaged files into a
    `UserError`."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, IndexError) as error:
        message = " ".join(str(error).split())[:200]
        raise UserError(f"{uri}: cannot be read as {kind} ({message}): download or convert it again") from None


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


def require_self_contained(content: bytes, name: str) -> None:
    """Rejects a file that refers to others.

    Raises:
        UserError: the file `name` refers to another file.
    """
    # Through h5py's lower interface, in half the time: an upload is checked before it is read.
    file = h5py.h5f.open_file_image(content)
    try:
        groups, seen = [h5py.h5g.open(file, b"/")], set()
        while groups:
            group = groups.pop()
            for key in group:
                shown = repr(key.decode(errors="replace")[:40])
                if group.links.get_info(key).type != h5py.h5l.TYPE_HARD:
                    raise UserError(f"{name}: {shown} is a link; send a file that contains all its values itself")
                found = h5py.h5o.open(group, key)
                address = h5py.h5o.get_info(found).addr
                if address in seen:
                    continue
                seen.add(address)
                if isinstance(found, h5py.h5g.GroupID):
                    groups.append(found)
                elif isinstance(found, h5py.h5d.DatasetID):
                    _require_own_values(found, f"{name}: {shown}")
    finally:
        file.close()


def _require_own_values(dataset: h5py.h5d.DatasetID, where: str) -> None:
    made = dataset.get_create_plist()
    if made.get_external_count() or made.get_layout() == h5py.h5d.VIRTUAL:
        raise UserError(f"{where} has its values in another file; send a file that contains all its values itself")

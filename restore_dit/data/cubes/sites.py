"""Which files of a folder belong to which site of a family of data cubes."""

from __future__ import annotations

import fnmatch
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from restore_dit.config.cube_mapping import CubeMapping
from restore_dit.data import storage
from restore_dit.data.store.manifest import is_safe_name
from restore_dit.errors import UserError

_SUFFIXES = (".nc", ".nc4", ".netcdf", ".cdf", ".h5", ".hdf5", ".zarr", ".tif", ".tiff")
"""Suffixes of files that may belong to a cube, whatever the patterns match; Zarr stores are folders."""


@dataclass(frozen=True)
class Site:
    """The files of one tile under the `name` that the source gives it; `problem` says why it cannot be ingested
    regardless of their contents."""

    name: str
    uri: str
    files: tuple[storage.Location, ...]
    problem: str | None = None

    @cached_property
    def tile_id(self) -> str:
        """The name or, if it is not safe in every path, its safe characters and a checksum of the whole name: the same
        wherever it is ingested, and different for every other name."""
        name = unicodedata.normalize("NFC", self.name)  # macOS decomposes accented letters
        if is_safe_name(name):
            return name
        letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        kept = re.sub(r"[^A-Za-z0-9._-]+", "-", letters).strip("._-")[:100] or "tile"
        return f"{kept}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"

    @property
    def renamed(self) -> bool:
        """Whether the tile's id differs from the name."""
        return self.tile_id != self.name


def find_sites(source: str | Path, mapping: CubeMapping) -> list[Site]:
    """The sites of a source: a single file or Zarr store, a folder with the files of one or several sites, or a folder
    with one folder per site.

    Raises:
        UserError: there is no such folder, or nothing in it matches the mapping.
    """
    folder = storage.locate(source)
    if _matches(folder, mapping):
        return sites_of_files([folder], folder, mapping)
    patterns = ", ".join(product.files for product in mapping.optical)
    if not storage.is_folder(folder):
        if storage.exists(folder):
            raise UserError(
                f"{folder.uri}: does not match {patterns}, the files of the mapping: choose another mapping"
            )
        raise UserError(f"{folder.uri}: not found: check the path")
    names = storage.list_names(folder)
    sites = sites_of_files([folder.join(name) for name in names], folder, mapping)
    if not sites:
        folders = [folder.join(name) for name in names if storage.is_folder(folder.join(name))]
        for inner in folders:
            files = [inner.join(name) for name in storage.list_names(inner)]
            sites += sites_of_files(files, inner, mapping) or [Site(inner.name, inner.uri, ())]
        if not any(site.files for site in sites):
            raise UserError(
                f"{folder.uri}: no file matches {patterns} in this folder or its subfolders: choose another mapping"
            )
    return _without_namesakes(sorted(sites, key=lambda site: site.tile_id))


def sites_of_files(files: Sequence[storage.Location], folder: storage.Location, mapping: CubeMapping) -> list[Site]:
    """The sites that these files of a folder belong to; files that match no product of the mapping are ignored.

    Without a pattern for tile ids, the folder is the site; a single file is named without its suffix.
    """
    groups: dict[str, list[storage.Location]] = {}
    for file in files:
        if _matches(file, mapping):
            found = re.search(mapping.tile_id, file.name) if mapping.tile_id else None
            groups.setdefault(found.group(1) if found else _stem(folder, file), []).append(file)
    return [Site(name, folder.uri, tuple(group)) for name, group in groups.items()]


def _stem(folder: storage.Location, file: storage.Location) -> str:
    return file.name.rpartition(".")[0] or file.name if folder.path == file.path else folder.name


def _matches(file: storage.Location, mapping: CubeMapping) -> bool:
    # Hidden files are not cubes: macOS adds one with metadata for each file that it copies.
    if not file.name.lower().endswith(_SUFFIXES) or file.name.startswith("."):
        return False
    return any(fnmatch.fnmatchcase(file.name, product.files) for product in (*mapping.optical, *mapping.radar))


def _without_namesakes(sites: Sequence[Site]) -> list[Site]:
    """Replaces folders with the same tile id, which would be ambiguous, by one site with a `problem`."""
    by_id: dict[str, list[Site]] = {}
    for site in sites:
        by_id.setdefault(site.tile_id, []).append(site)
    return [
        same[0]
        if len(same) == 1
        else Site(
            same[0].name,
            same[0].uri,
            (),
            f"{same[0].uri}: the id {tile_id} is also that of {same[1].uri}: "
            "rename one, or correct the mapping's tile_id",
        )
        for tile_id, same in by_id.items()
    ]

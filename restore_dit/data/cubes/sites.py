"""Which files of a folder make up which site of a family of data cubes."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from restore_dit.config.cube_mapping import CubeMapping
from restore_dit.data import storage
from restore_dit.errors import UserError


@dataclass(frozen=True)
class Site:
    """The files of one tile."""

    tile_id: str
    uri: str
    files: tuple[storage.Location, ...]


def find_sites(source: str | Path, mapping: CubeMapping) -> list[Site]:
    """The sites in a folder that holds the files of one or several sites, or a folder for each.

    Raises:
        UserError: no such folder, or nothing in it matches the mapping.
    """
    folder = storage.locate(source)
    names = storage.list_names(folder)
    sites = sites_of_files([folder.join(name) for name in names], folder, mapping)
    if not sites:
        folders = [folder.join(name) for name in names if storage.is_folder(folder.join(name))]
        for inner in folders:
            files = [inner.join(name) for name in storage.list_names(inner)]
            sites += sites_of_files(files, inner, mapping) or [Site(inner.name, inner.uri, ())]
        if not any(site.files for site in sites):
            patterns = ", ".join(product.files for product in mapping.optical)
            raise UserError(
                f"{folder.uri}: no file matches {patterns}, here or one folder down: check folder and mapping"
            )
    return sorted(sites, key=lambda site: site.tile_id)


def sites_of_files(files: Sequence[storage.Location], folder: storage.Location, mapping: CubeMapping) -> list[Site]:
    """The sites that these files of a folder belong to; files that no product of the mapping names are left out."""
    groups: dict[str, list[storage.Location]] = {}
    for file in files:
        if any(fnmatch.fnmatchcase(file.name, product.files) for product in (*mapping.optical, *mapping.radar)):
            found = re.search(mapping.tile_id, file.name) if mapping.tile_id else None
            groups.setdefault(found.group(1) if found else folder.name, []).append(file)
    return [Site(tile_id, folder.uri, tuple(group)) for tile_id, group in groups.items()]

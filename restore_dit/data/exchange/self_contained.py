"""Checks that an HDF5 file, which every NetCDF 4 file is, contains everything it refers to.

Three features make the library open other files, at any path, and return their contents: external storage, virtual
datasets, and links to other files. Files of unknown origin must not use any of them.
"""

from __future__ import annotations

import h5py

from restore_dit.errors import UserError


def require_self_contained(content: bytes, name: str) -> None:
    """Rejects a file that refers to others.

    Raises:
        UserError: the file `name` refers to another file.
    """
    with h5py.File(h5py.h5f.open_file_image(content), "r") as file:
        groups, seen = [file["/"]], set()
        while groups:
            group = groups.pop()
            for key in group:
                if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                    raise UserError(f"{name}: {key[:40]!r} is a link; send a file that contains all its values itself")
                found = group[key]
                address = h5py.h5o.get_info(found.id).addr
                if address in seen:
                    continue
                seen.add(address)
                if isinstance(found, h5py.Group):
                    groups.append(found)
                elif isinstance(found, h5py.Dataset):
                    _require_own_values(found, f"{name}: {key[:40]!r}")


def _require_own_values(dataset: h5py.Dataset, where: str) -> None:
    made = dataset.id.get_create_plist()
    if made.get_external_count() or made.get_layout() == h5py.h5d.VIRTUAL:
        raise UserError(f"{where} has its values in another file; send a file that contains all its values itself")

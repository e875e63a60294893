"""Whether an HDF5 file, which every NetCDF 4 file is, holds all that it names.

Three things in such a file make the library open others, by any path, and hand out what is there: values that lie in an
external file, virtual datasets, and links to other files. A stranger's file must have none of them.
"""

from __future__ import annotations

import h5py

from restore_dit.errors import UserError


def require_self_contained(content: bytes, name: str) -> None:
    """Refuses a file that refers to others.

    Raises:
        UserError: it does; `name` says which file.
    """
    with h5py.File(h5py.h5f.open_file_image(content), "r") as file:
        groups, seen = [file["/"]], set()
        while groups:
            group = groups.pop()
            for key in group:
                if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                    raise UserError(f"{name}: {key[:40]!r} is a link; send a file that holds all its values itself")
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
        raise UserError(f"{where} has its values in another file; send a file that holds all its values itself")

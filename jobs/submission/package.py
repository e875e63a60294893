"""Packs a job's working directory for the cluster: one ZIP of the project, the configuration and small files.

Packing is deterministic: the same content gives the same bytes, so that a cluster that already has the package does not
get it again.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from restore_dit.errors import UserError

MOST_BYTES = 32 << 20
"""Maximum size of a package; the project is about 1 MB. Ray keeps packages in the memory of the cluster's head."""

_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def pack(project: Mapping[str, Path], files: Mapping[str, bytes]) -> bytes:
    """The content of the ZIP.

    Args:
        project: files of the project, by their path in the ZIP.
        files: contents of further files, by their path in the ZIP.

    Raises:
        UserError: a file cannot be read, or the package is too large.
    """
    sizes: dict[str, int] = {}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in sorted({*project, *files}):
            data = files[name] if name in files else _read(project[name])
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # always Unix, so that the bytes do not depend on the platform
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, compresslevel=6)
            sizes[name] = archive.infolist()[-1].compress_size
    if content.tell() > MOST_BYTES:
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
        raise UserError(
            f"the package for the cluster is {content.tell() / 1e6:.0f} MB, more than {MOST_BYTES / 1e6:.0f} MB; the "
            f"largest files: {', '.join(f'{name} ({sizes[name] / 1e6:.0f} MB)' for name in largest)}; move files "
            "that are not code out of the packages, or add them to .gitignore"
        )
    return content.getvalue()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None

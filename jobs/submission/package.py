"""What is sent to the cluster as a job's working directory: one ZIP of the project, the configuration and small files.

The same content gives the same bytes, whenever and wherever it is packed, so that a cluster that has it is not sent it
again.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from restore_dit.errors import UserError

MOST_BYTES = 32 << 20
"""The project is about 1 MB. Ray keeps packages in the memory of the cluster's head."""

_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def pack(project: Mapping[str, Path], files: Mapping[str, bytes]) -> bytes:
    """The ZIP; `files` come beside the project, by path.

    Raises:
        UserError: a file cannot be read, or all together are too large.
    """
    sizes: dict[str, int] = {}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in sorted({*project, *files}):
            data = files[name] if name in files else _read(project[name])
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, wherever it is packed
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, compresslevel=6)
            sizes[name] = archive.infolist()[-1].compress_size
    if content.tell() > MOST_BYTES:
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
        raise UserError(
            f"the package for the cluster is {content.tell() / 1e6:.0f} MB, more than {MOST_BYTES / 1e6:.0f} MB; the "
            f"largest files: {', '.join(f'{name} ({sizes[name] / 1e6:.0f} MB)' for name in largest)}; move what is no "
            "code out of the packages, or let .gitignore name it"
        )
    return content.getvalue()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None

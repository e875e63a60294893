"""Paths as `file://` addresses and back, whatever stands in the name of a folder.

Such an address is written in two ways: as `file://$PWD/store`, which says the path as it is, and as browsers and
`pathlib` do, with `%20` for a space. Both are read. Where a path has `%20` in it and both may be meant, what is there
decides, or the user.
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

from restore_dit.errors import UserError

_ESCAPE = re.compile(r"%(?=[0-9A-Fa-f]{2})")
_ESCAPED_PERCENT = re.compile(r"%25[0-9A-Fa-f]{2}")
_ENCODED = re.compile(r"[A-Za-z0-9/%._~!$&'()*+,;=:@-]*")
"""What a percent-encoded path consists of."""


def file_uri(path: str) -> str:
    """The address of a whole path, which `path_of` reads as this path and no other, whatever lies on the disk."""
    return f"file://{_ESCAPE.sub('%25', path)}"


def path_of(uri: str) -> str:
    """The path that a `file:` address names.

    Raises:
        UserError: it names another machine or no whole path, or could mean either of two files.
    """
    host, slash, rest = re.sub(r"^[A-Za-z]+:(//)?", "", uri).partition("/")
    if not slash or host.lower() not in ("", "localhost"):
        raise UserError(f"{uri}: file:// goes before a whole path of this machine: write file:///folder")
    plain = f"/{rest}"
    try:
        decoded = unquote(plain, errors="strict")
    except UnicodeDecodeError:
        return plain  # nobody encoded this: the percent sign is a percent sign
    if decoded == plain or _ESCAPED_PERCENT.search(plain):
        return decoded
    there = [path for path, begins in zip((plain, decoded), _first_difference(plain), strict=True) if _is_there(begins)]
    if len(there) == 1:
        return there[0]
    if not there and _ENCODED.fullmatch(plain):
        return decoded
    raise UserError(f"{uri}: may mean {plain} or {decoded}: write {file_uri(plain)} or {file_uri(decoded)}")


def _first_difference(plain: str) -> tuple[str, str]:
    """Both readings of a path, up to the first folder whose name they read differently."""
    before, name = re.match(r"(.*?)([^/]*%[0-9A-Fa-f]{2}[^/]*)", plain, re.DOTALL).groups()  # type: ignore[union-attr]
    return before + name, before + unquote(name)


def _is_there(path: str) -> bool:
    return "\0" not in path and os.path.lexists(path)

"""Converts paths to `file://` addresses and back, whatever characters folder names contain.

Such addresses are written in two ways: as `file://$PWD/store`, with the path verbatim, and percent-encoded as by
browsers and `pathlib`, with `%20` for a space. Both are accepted. If a path contains `%20` and both readings are
possible, the one that exists is used; otherwise the user has to decide.
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

from restore_dit.errors import UserError

_ESCAPE = re.compile(r"%(?=[0-9A-Fa-f]{2})")
_ESCAPED_PERCENT = re.compile(r"%25[0-9A-Fa-f]{2}")
_ENCODED = re.compile(r"[A-Za-z0-9/%._~!$&'()*+,;=:@-]*")
"""Characters of a percent-encoded path."""


def file_uri(path: str) -> str:
    """The address of an absolute path, which `path_of` reads as exactly this path, whatever exists on disk."""
    return f"file://{_ESCAPE.sub('%25', path)}"


def path_of(uri: str) -> str:
    """The path that a `file:` address refers to.

    Raises:
        UserError: it refers to another machine, is not an absolute path, or is ambiguous.
    """
    host, slash, rest = re.sub(r"^[A-Za-z]+:(//)?", "", uri).partition("/")
    if not slash or host.lower() not in ("", "localhost"):
        raise UserError(f"{uri}: file:// must be followed by an absolute path on this machine: write file:///folder")
    plain = f"/{rest}"
    try:
        decoded = unquote(plain, errors="strict")
    except UnicodeDecodeError:
        return plain  # not percent-encoded: the percent sign is literal
    if decoded == plain or _ESCAPED_PERCENT.search(plain):
        return decoded
    there = [path for path, begins in zip((plain, decoded), _first_difference(plain), strict=True) if _is_there(begins)]
    if len(there) == 1:
        return there[0]
    if not there and _ENCODED.fullmatch(plain):
        return decoded
    raise UserError(f"{uri}: may refer to {plain} or {decoded}: write {file_uri(plain)} or {file_uri(decoded)}")


def _first_difference(plain: str) -> tuple[str, str]:
    """Both readings of a path, up to the first folder whose name differs between them."""
    before, name = re.match(r"(.*?)([^/]*%[0-9A-Fa-f]{2}[^/]*)", plain, re.DOTALL).groups()  # type: ignore[union-attr]
    return before + name, before + unquote(name)


def _is_there(path: str) -> bool:
    return "\0" not in path and os.path.lexists(path)

"""Addresses as text: their scheme, what of them may be shown in messages (which end up in logs and in stores'
manifests), and `file://` addresses of paths with any characters."""

from __future__ import annotations

import ipaddress
import os
import re
import urllib.request
from urllib.parse import unquote, urlsplit

from restore_dit.errors import UserError

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):/")
_WEB_ADDRESS = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/?#]*@)?([^/?#]*)([^?#]*)")
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d*)?")

_NAMES = ("file", "s3")
"""Schemes whose addresses have neither query nor fragment: `?` and `#` may be part of a file name."""


def scheme_of(address: str) -> str | None:
    """The scheme in lower case, such as `s3`; None for a plain path. `s3:/bucket`, which `pathlib` makes of an address,
    counts as an address."""
    match = _SCHEME.match(address)
    return match[1].lower() if match else None


def without_secrets(address: str) -> str:
    """The address without `user:password@`; a web address also without query and fragment, which may contain signatures
    and tokens; a plain path unchanged. Since a secret may contain a slash, anything after a colon that is not a port is
    hidden."""
    scheme = scheme_of(address)
    if scheme in _NAMES:
        host = address.partition("://")[2].partition("/")[0]
        return f"{scheme}://…" if "@" in host or ":" in host else address
    match = _WEB_ADDRESS.match(address)
    if not match:
        return address
    if not _HOST.fullmatch(match[2]):
        return f"{match[1]}…"
    return match[1] + match[2] + match[3]


def on_loopback(url: str) -> bool:
    """Whether the address is reached without a network: on this machine, or through a tunnel that starts here. Such
    requests bypass the proxies in the environment: a proxy's loopback is a different one, and it would see tokens."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def web_opener(url: str) -> urllib.request.OpenerDirector:
    """The opener for this address, using the environment's proxies except for loopback."""
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if on_loopback(url) else []))


def retry_after(header: str | None) -> float:
    """Seconds that a server asks to wait in `Retry-After`, 0 without that header. A date, which some proxies send,
    counts as 5 s."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 5.0


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

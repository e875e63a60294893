"""Addresses: which scheme one has, and how it may be shown: messages end in logs, and some in a store's manifest."""

from __future__ import annotations

import ipaddress
import re
import urllib.request
from urllib.parse import urlsplit

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):/")
_WEB_ADDRESS = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/?#]*@)?([^/?#]*)([^?#]*)")
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d*)?")

_NAMES = ("file", "s3")
"""Schemes whose addresses have neither query nor fragment: `?` and `#` may stand in the name of a file."""


def scheme_of(address: str) -> str | None:
    """Such as `s3`, in lower case; None for a plain path. `s3:/bucket`, as `pathlib` leaves an address, is no path."""
    match = _SCHEME.match(address)
    return match[1].lower() if match else None


def without_secrets(address: str) -> str:
    """The address without `user:password@`, and one of the web without query and fragment, where signatures and tokens
    are; a plain path as it is. A secret may have a slash in it: what follows a colon and is no port is not shown."""
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
    """Whether it is reached without a network: on this machine, or through a tunnel that begins here. Such requests go
    past the proxies that the environment names: a proxy's own loopback is another, and it would see tokens."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def web_opener(url: str) -> urllib.request.OpenerDirector:
    """What opens this address: through the environment's proxies, but for loopback."""
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if on_loopback(url) else []))

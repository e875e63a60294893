"""The scheme of an address, and what of it may be shown in messages, which end up in logs and in stores' manifests."""

from __future__ import annotations

import ipaddress
import re
import urllib.request
from urllib.parse import urlsplit

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

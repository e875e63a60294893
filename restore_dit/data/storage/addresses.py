"""Addresses as they may be shown: messages end in logs, and some in the manifest of a store."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/?#]*@)?([^?#]*)")


def without_secrets(address: str) -> str:
    """The address without `user:password@`, query and fragment, where signatures and tokens are; a plain path as it
    is."""
    match = _ADDRESS.match(address)
    return match[1] + match[2] if match else address

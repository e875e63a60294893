"""Authentication by bearer token, and rate limits."""

from __future__ import annotations

import hmac
import os
import re
import secrets
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from restore_dit.errors import UserError

TOKENS_VARIABLE = "RESTORE_DIT_TOKENS"
"""`name:secret,name:secret`; takes precedence over the token file."""

TOKEN_FILE_VARIABLE = "RESTORE_DIT_TOKEN_FILE"
"""Path of a file with one `name:secret` per line."""

ANONYMOUS = "anybody"
"""Name given to every caller of a service without authentication."""

_ENTRY = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,40}):(?P<secret>\S{16,})")


class Tokens:
    """Secrets, keyed by the names of their holders."""

    def __init__(self, secrets_by_name: Mapping[str, str]) -> None:
        self._secrets = {name: secret.encode() for name, secret in secrets_by_name.items()}

    def holder(self, authorization: str | None) -> str | None:
        """Name of the token that this header (`Bearer SECRET`) carries; None if it matches no token. The comparison
        takes constant time, so that timing reveals nothing about a secret."""
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        found = None
        for name, secret in self._secrets.items():
            if hmac.compare_digest(secret, given.strip().encode()):
                found = name
        return found


def tokens_from_environment() -> Tokens | None:
    """Tokens configured through the environment; None if neither variable is set.

    Raises:
        UserError: an entry is not `name:secret`, or the file cannot be read. The message never contains a secret.
    """
    stated = os.environ.get(TOKENS_VARIABLE)
    where = TOKENS_VARIABLE
    if stated is None:
        path = os.environ.get(TOKEN_FILE_VARIABLE)
        if path is None:
            return None
        where = path
        try:
            stated = Path(path).read_text()
        except OSError as error:
            raise UserError(f"{path}: cannot read the tokens: {error.strerror}") from None
    found = {}
    for number, entry in enumerate(re.split(r"[,\n]", stated), start=1):
        if not entry.strip() or entry.strip().startswith("#"):
            continue
        match = _ENTRY.fullmatch(entry.strip())
        if match is None:
            raise UserError(f"{where}: entry {number} is not name:secret with a secret of at least 16 characters")
        found[match["name"]] = match["secret"]
    if not found:
        raise UserError(f"{where}: contains no token")
    return Tokens(found)


def own_token_file(folder: Path) -> Path:
    """Path of a file with a single token, `owner`, readable only by its owner. The file is created if missing."""
    path = folder / "token"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text(f"owner:{secrets.token_urlsafe(32)}\n")
    return path


class RateLimit:
    """Limits the number of calls per caller within any minute."""

    def __init__(self, a_minute: int) -> None:
        self._a_minute = a_minute
        self._calls: dict[str, deque[float]] = {}

    def seconds_to_wait(self, name: str) -> float:
        """0 if the call is allowed, in which case it counts; otherwise the seconds until the next call is allowed."""
        now = time.monotonic()
        calls = self._calls.setdefault(name, deque())
        while calls and now - calls[0] >= 60:
            calls.popleft()
        if len(calls) >= self._a_minute:
            return 60 - (now - calls[0])
        calls.append(now)
        return 0.0

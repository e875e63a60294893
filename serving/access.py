"""Who may call, and how often."""

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
"""`name:secret,name:secret`; it takes the place of the file."""

TOKEN_FILE_VARIABLE = "RESTORE_DIT_TOKEN_FILE"
"""A file with a `name:secret` a line."""

NOBODY = "anybody"
"""The name of whoever calls an open service."""

_ENTRY = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,40}):(?P<secret>\S{16,})")


class Tokens:
    """Secrets by the names of their holders."""

    def __init__(self, secrets_by_name: Mapping[str, str]) -> None:
        self._secrets = {name: secret.encode() for name, secret in secrets_by_name.items()}

    def holder(self, authorization: str | None) -> str | None:
        """The name of whoever sent this header, `Bearer SECRET`; none for a wrong one. A secret that is nearly right
        takes as long as any other."""
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        found = None
        for name, secret in self._secrets.items():
            if hmac.compare_digest(secret, given.strip().encode()):
                found = name
        return found


def tokens_from_environment() -> Tokens | None:
    """The tokens that the environment names; none where it names none.

    Raises:
        UserError: something that is no `name:secret`, or no such file; never showing a secret.
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
            raise UserError(f"{where}: entry {number} is no name:secret with a secret of 16 characters at least")
        found[match["name"]] = match["secret"]
    if not found:
        raise UserError(f"{where}: no token")
    return Tokens(found)


def own_token_file(folder: Path) -> Path:
    """A file with one token, `owner`, made where there is none; readable by its owner only."""
    path = folder / "token"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text(f"owner:{secrets.token_urlsafe(32)}\n")
    return path


class RateLimit:
    """How many calls of each name there may be within a minute."""

    def __init__(self, a_minute: int) -> None:
        self._a_minute = a_minute
        self._calls: dict[str, deque[float]] = {}

    def seconds_to_wait(self, name: str) -> float:
        """0, and the call counts; or how long until the next one may be."""
        now = time.monotonic()
        calls = self._calls.setdefault(name, deque())
        while calls and now - calls[0] >= 60:
            calls.popleft()
        if len(calls) >= self._a_minute:
            return 60 - (now - calls[0])
        calls.append(now)
        return 0.0

"""Finds the cluster for a job: the address of its dashboard, and its token."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cluster.local.record import ClusterRecord, records
from restore_dit.data.storage.addresses import on_loopback, without_secrets
from restore_dit.errors import UserError

USERS_TOKEN_FILE = Path("~/.ray/auth_token")
"""Where Ray stores the user's token."""

_THIS_MACHINE = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Target:
    """A cluster's dashboard."""

    url: str
    """For example `http://127.0.0.1:8265`."""
    token: str | None = field(repr=False)
    token_origin: str | None
    """Where the token comes from, for messages."""

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every request. The token appears nowhere else: in no command line, log or environment."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    @property
    def on_loopback(self) -> bool:
        """Whether the address is on this machine, either directly or as the local end of a tunnel."""
        return on_loopback(self.url)


def find_target(address: str | None) -> Target:
    """The cluster at `address`, else the one that `RAY_API_SERVER_ADDRESS` names, else the local cluster `default`.

    Raises:
        UserError: no cluster is named, the address is invalid, or a token cannot be read.
    """
    local = [record for record in records() if record.alive]
    default = next((record.dashboard for record in local if record.name == "default"), None)
    given = address or os.environ.get("RAY_API_SERVER_ADDRESS") or default
    if not given and local:
        others = ", ".join(f"{record.dashboard} ('{record.name}')" for record in local)
        raise UserError(f"no cluster: give --address; local clusters: {others}", status=2)
    if not given:
        raise UserError(
            "no cluster: give --address http://HEAD:8265, set RAY_API_SERVER_ADDRESS, or start a cluster on this "
            "machine with `restore-dit cluster up`",
            status=2,
        )
    url = _url(given)
    token, origin = _token(next((record for record in local if _same(url, record.dashboard)), None))
    return Target(url, token, origin)


def _url(given: str) -> str:
    text = given if "://" in given else f"http://{given}"
    shown = without_secrets(text)
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
        ready = valid and (parts.port is not None or "://" in given)
    except ValueError:
        ready = False
    if not ready:
        raise UserError(
            f"{shown.removeprefix('http://') if '://' not in given else shown}: not a valid address of a cluster's "
            "dashboard, which looks like http://HEAD:8265",
            status=2,
        )
    if shown != text:
        raise UserError(
            f"{shown}: the address contains credentials (not shown); set RAY_AUTH_TOKEN to a token instead", status=2
        )
    return text.rstrip("/")


def _same(url: str, other: str) -> bool:
    """Whether both addresses name the same server; all names of the loopback interface count as equal."""

    def server(text: str) -> tuple[str, int | None]:
        parts = urlsplit(text)
        return ("localhost" if parts.netloc.rpartition(":")[0] in _THIS_MACHINE else parts.netloc, parts.port)

    return server(url) == server(other)


def _token(local: ClusterRecord | None) -> tuple[str | None, str | None]:
    """The token and where it comes from."""
    if local is not None:
        return _read(local.token_file), f"the token file of the local cluster '{local.name}'"
    if given := os.environ.get("RAY_AUTH_TOKEN"):
        return _clean(given, "RAY_AUTH_TOKEN"), "RAY_AUTH_TOKEN"
    if path := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return _read(Path(path)), f"{path} (RAY_AUTH_TOKEN_PATH)"
    file = USERS_TOKEN_FILE.expanduser()
    return (_read(file), str(USERS_TOKEN_FILE)) if file.is_file() else (None, None)


def _read(path: Path) -> str:
    try:
        return _clean(path.read_text(encoding="ascii"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a token"
        raise UserError(f"{path}: the token cannot be read: {reason}") from None


def _clean(token: str, origin: str) -> str:
    """The token without a trailing newline. Raises `UserError`, without showing it, if it cannot be a header value."""
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(f"{origin}: does not contain a valid token")
    return token

"""Where a job reads and writes, as a cluster sees it: no path of this machine, and no address that holds a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel

from jobs.registry import Job, Place
from restore_dit.data.storage.addresses import without_secrets
from restore_dit.errors import UserError

SENT_FOLDER = "submitted"
"""Where the files that go along with a job lie, below its working directory."""

MOST_BYTES_OF_A_FILE = 4 << 20

HARMLESS_QUERIES = {"download"}
"""What may stand in an address after the question mark; anything else might be a signature or a token."""

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_SCHEMES = ("s3", "file")


def refuse_secrets(config: BaseModel) -> None:
    """Raises `UserError` where any address in the configuration carries credentials: whoever may use the cluster can
    read a job's configuration."""
    for key, value in _words(config.model_dump(mode="json")):
        if _SCHEME.match(value) and _holds_secret(value):
            raise UserError(
                f"{key}={without_secrets(value)}: carries credentials or a signature (not shown), which every user of "
                "the cluster could read; give the plain address, and the credentials to the cluster",
                status=2,
            )


def as_on_the_cluster(job: Job, config: BaseModel) -> tuple[BaseModel, dict[str, bytes]]:
    """The configuration as the job will read it, and the small files of this machine that go along, by their path
    below the job's working directory.

    Raises:
        UserError: a place is missing, or is one that the cluster cannot reach.
    """
    files: dict[str, bytes] = {}
    for place in job.places:
        addresses = list(place.values(config))
        if place.required and not addresses:
            raise UserError(f"{place.key} is not set: give {place.key}=s3://bucket/folder", status=2)
        for address in addresses:
            if place.small_file and not _SCHEME.match(address):
                sent = _file_to_send(place, address)
                if sent is not None:
                    path = f"{SENT_FOLDER}/{place.key}{Path(address).suffix}"
                    files[path] = sent
                    config = _with_value(config, place.key, path)
                continue
            _check_reachable(place, address)
    return config, files


def _check_reachable(place: Place, address: str) -> None:
    match = _SCHEME.match(address)
    if match is None:
        raise UserError(
            f"{place.key}={address}: a path of this machine, which the cluster cannot reach; give s3://bucket/… or, "
            f"for a folder that every node mounts, {Path(address).expanduser().absolute().as_uri()}",
            status=2,
        )
    schemes = (*_SCHEMES, "https", "http") if place.web else _SCHEMES
    if match[1].lower() not in schemes:
        raise UserError(
            f"{place.key}={without_secrets(address)}: a job cannot use {match[1]}://; give "
            f"{' or '.join(f'{scheme}://' for scheme in schemes)}",
            status=2,
        )


def _file_to_send(place: Place, address: str) -> bytes | None:
    """Its content; None where it is the name of something shipped."""
    path = Path(address).expanduser()
    if not path.is_file():
        if place.named is not None:
            place.named(address)
            return None
        raise UserError(f"{place.key}={address}: no such file on this machine; give a file or s3://bucket/…", status=2)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{place.key}={address}: cannot be read: {error.strerror}") from None
    if len(content) > MOST_BYTES_OF_A_FILE:
        raise UserError(
            f"{place.key}={address}: {len(content) / 1e6:.0f} MB, too large to send along with a job (at most "
            f"{MOST_BYTES_OF_A_FILE / 1e6:.0f} MB); copy it to s3://bucket/… and name that",
            status=2,
        )
    if place.named is not None:
        place.named(str(path))  # what is wrong in it is said now, not on the cluster
    return content


def _holds_secret(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return True  # who knows what it holds
    names = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    unnamed = parts.query and not names
    return bool("@" in parts.netloc or parts.fragment or unnamed or names - HARMLESS_QUERIES)


def _words(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every word in a tree, with its key."""
    if isinstance(tree, str):
        yield key, tree
    elif isinstance(tree, dict):
        for name, value in tree.items():
            yield from _words(value, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, list):
        for value in tree:
            yield from _words(value, key)


def _with_value(config: BaseModel, key: str, value: str) -> BaseModel:
    name, _, rest = key.partition(".")
    return config.model_copy(update={name: _with_value(getattr(config, name), rest, value) if rest else value})

"""Checks the addresses that a job reads and writes: reachable from the cluster, and free of secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel

from jobs.registry import Job, Place
from restore_dit.data.storage.addresses import file_uri, path_of, scheme_of, without_secrets
from restore_dit.data.storage.locations import split_s3
from restore_dit.errors import UserError

SENT_FOLDER = "submitted"
"""Folder of the files sent along with a job, below its working directory."""

MAX_BYTES_OF_A_FILE = 4 << 20

HARMLESS_QUERIES = {"download"}
"""Query parameters allowed in an address; any other might be a signature or a token."""

_SCHEMES = ("s3", "file")


def refuse_secrets(config: BaseModel) -> None:
    """Raises `UserError` if an address in the configuration contains credentials, because every user of the cluster can
    read a job's configuration."""
    for key, value in _strings(config.model_dump(mode="json")):
        if scheme_of(value) and _holds_secret(value):
            raise UserError(
                f"{key}={without_secrets(value)}: contains credentials or a signature (not shown), which every user of "
                "the cluster could read; use the plain address and give the cluster the credentials",
                status=2,
            )


def as_on_the_cluster(job: Job, config: BaseModel) -> tuple[BaseModel, dict[str, bytes]]:
    """The configuration as the job will read it, and the contents of the small local files to send along, by their path
    below the job's working directory.

    Raises:
        UserError: an address is missing, or the cluster cannot reach it.
    """
    job.require_places(config)
    files: dict[str, bytes] = {}
    for place in job.places:
        for address in place.values(config):
            if address == place.shipped:
                continue
            # A value that may be the name of something shipped is looked up as a file, never as an address.
            if place.small_file and (place.named is not None or scheme_of(address) is None):
                sent = _file_to_send(place, address)
                if sent is not None:
                    path = f"{SENT_FOLDER}/{place.key}{Path(address).suffix}"
                    files[path] = sent
                    config = _with_value(config, place.key, path)
                continue
            _check_reachable(place, address)
    return config, files


def _check_reachable(place: Place, address: str) -> None:
    scheme = scheme_of(address)
    if scheme is None:
        raise UserError(
            f"{place.key}={address}: a local path, which the cluster cannot reach; give s3://bucket/… or, "
            f"for a folder that every node mounts, {file_uri(str(Path(address).expanduser().absolute()))}",
            status=2,
        )
    schemes = (*_SCHEMES, "https", "http") if place.web else _SCHEMES
    if scheme not in schemes:
        raise UserError(
            f"{place.key}={without_secrets(address)}: a job cannot use {scheme}://; give "
            f"{' or '.join(f'{one}://' for one in schemes)}",
            status=2,
        )
    # Refuses what the job would refuse. The address is sent unchanged, since only the cluster can see what it holds.
    try:
        if scheme == "s3":
            split_s3(address)
        elif scheme == "file":
            path_of(address)
    except UserError as error:
        raise UserError(f"{place.key}: {error}", status=2) from None


def _file_to_send(place: Place, address: str) -> bytes | None:
    """Content of the file; None if the value is the name of something shipped."""
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
    if len(content) > MAX_BYTES_OF_A_FILE:
        raise UserError(
            f"{place.key}={address}: {len(content) / 1e6:.0f} MB, too large to send along with a job (at most "
            f"{MAX_BYTES_OF_A_FILE / 1e6:.0f} MB); copy it to s3://bucket/… and name that",
            status=2,
        )
    if place.named is not None:
        place.named(str(path))  # reports errors in the file now rather than on the cluster
    return content


def _holds_secret(address: str) -> bool:
    if scheme_of(address) in _SCHEMES:
        return without_secrets(address) != address
    try:
        parts = urlsplit(address)
        _ = parts.port  # fails for `https://user:a/b@host`, where the secret is in place of the port
    except ValueError:
        return True  # it cannot be parsed, so it may contain anything
    names = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    unnamed = parts.query and not names
    return bool("@" in parts.netloc or parts.fragment or unnamed or names - HARMLESS_QUERIES)


def _strings(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string in a tree, with its key."""
    if isinstance(tree, str):
        yield key, tree
    elif isinstance(tree, dict):
        for name, value in tree.items():
            yield from _strings(value, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, list):
        for value in tree:
            yield from _strings(value, key)


def _with_value(config: BaseModel, key: str, value: str) -> BaseModel:
    name, _, rest = key.partition(".")
    return config.model_copy(update={name: _with_value(getattr(config, name), rest, value) if rest else value})

"""Random generators keyed by purpose, so that no draw depends on the order of draws."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(*key: str | int) -> np.random.Generator:
    """A generator that depends only on `key`, the same in every process and on every machine."""
    digest = hashlib.blake2b("\x1f".join(f"{type(part).__name__}:{part}" for part in key).encode(), digest_size=16)
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest.digest(), "little")))

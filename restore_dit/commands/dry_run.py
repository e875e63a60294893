"""Implements `--dry-run`."""

from __future__ import annotations

from pydantic import BaseModel

from restore_dit.config import dump


def show(config: BaseModel) -> int:
    """Prints a resolved configuration and returns exit status 0."""
    print(dump(config), end="")
    return 0

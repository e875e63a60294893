"""What `--dry-run` prints."""

from __future__ import annotations

from pydantic import BaseModel

from restore_dit.config import dump


def show(config: BaseModel) -> int:
    """Prints a resolved configuration; the exit status."""
    print(dump(config), end="")
    return 0

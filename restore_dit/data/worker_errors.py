"""Errors from other processes of a cluster: what a user can mend stays one line."""

from __future__ import annotations

import re

from restore_dit.errors import StorageAway, UserError


def user_error_behind(error: BaseException) -> UserError | None:
    """The `UserError` behind an exception, None if it is none. What a worker raises, Ray hands over as a text with the
    whole way there, sometimes under our error's own class."""
    found = re.search(r"restore_dit\.(?:\w+\.)*(UserError|StorageAway|TooLarge): (.+)", str(error))
    if found:
        return StorageAway(found[2]) if found[1] == "StorageAway" else UserError(found[2])
    return error if isinstance(error, UserError) else None

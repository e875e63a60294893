"""Errors from other processes of a cluster, reduced to one line where the user can fix them."""

from __future__ import annotations

import re

from restore_dit.errors import StorageUnavailable, UserError


def user_error_behind(error: BaseException) -> UserError | None:
    """The `UserError` behind an exception, or None. Ray passes on a worker's exception as text that includes the whole
    traceback, sometimes wrapped in a class derived from the original one."""
    found = re.search(r"restore_dit\.(?:\w+\.)*(UserError|StorageUnavailable|TooLarge): (.+)", str(error))
    if found:
        return StorageUnavailable(found[2]) if found[1] == "StorageUnavailable" else UserError(found[2])
    return error if isinstance(error, UserError) else None

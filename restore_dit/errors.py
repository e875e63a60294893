"""Errors that the user can fix: bad input, bad configuration, a missing or incompatible file; also behind another
process's exception."""

from __future__ import annotations

import re


class UserError(Exception):
    """An error that the user can fix. The message says in one line what is wrong, where, and what to do; the command
    line prints it and exits with `status`."""

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class StorageUnavailable(UserError):
    """Storage is unreachable or overloaded; the same request may succeed later."""


class TooLarge(UserError):
    """A file exceeds the size limits."""


def user_error_behind(error: BaseException) -> UserError | None:
    """The `UserError` behind an exception, or None. Ray passes on a worker's exception as text that includes the whole
    traceback, sometimes wrapped in a class derived from the original one."""
    found = re.search(r"restore_dit\.(?:\w+\.)*(UserError|StorageUnavailable|TooLarge): (.+)", str(error))
    if found:
        kinds = {kind.__name__: kind for kind in (UserError, StorageUnavailable, TooLarge)}
        return kinds[found[1]](found[2])
    return error if isinstance(error, UserError) else None

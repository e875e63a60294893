"""Errors that the user can fix: bad input, bad configuration, a missing or incompatible file; also behind another
process's exception."""

from __future__ import annotations


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
    """The `UserError` behind an exception, of the class that was raised, or None.

    Ray raises a worker's exception as an instance of both its class and `RayTaskError`: its text is the whole
    traceback, and `cause` the exception itself. The cause may be another worker's.
    """
    while isinstance(cause := getattr(error, "cause", None), BaseException):
        error = cause
    if not isinstance(error, UserError):
        return None
    message, _, appended = str(error).partition("\n")
    # Ray Data appends lines about its retries to the message of an exception in a task that reads.
    return type(error)(message, status=error.status) if appended else error

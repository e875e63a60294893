"""Errors that the user can fix: bad input, bad configuration, a missing or incompatible file."""


class UserError(Exception):
    """An error that the user can fix. The message says in one line what is wrong, where, and what to do; the command
    line prints it and exits with `status`."""

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class StorageUnavailable(UserError):
    """Storage is unreachable or overloaded; the same request may succeed later."""

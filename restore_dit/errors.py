"""The one error that a user can mend: bad input, bad configuration, a missing or foreign file."""


class UserError(Exception):
    """What is wrong, where, and what to do, in one line. The command line prints it and exits with `status`."""

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class StorageAway(UserError):
    """Storage does not answer, or says that it is overloaded: the same may work later."""

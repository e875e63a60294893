"""Checks that Ray can start its processes with an interpreter."""

from __future__ import annotations

import re

from restore_dit.errors import UserError

_SPECIAL_TO_SHELL = re.compile(r"[\s\"'\\$`&|;<>()*?#~!{}\[\]]")


def require_startable(python: str) -> None:
    """Refuses paths from which Ray's servers would start but its workers never would, because Ray runs
    `bash -c "exec PYTHON …"` without quotes.

    Raises:
        UserError: the interpreter's path contains a space or another character that is special to a shell.
    """
    found = _SPECIAL_TO_SHELL.search(python)
    if found:
        raise UserError(
            f"{python}: Ray cannot start workers from a path that contains {found[0]!r}: create the environment in "
            "another folder"
        )

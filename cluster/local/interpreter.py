"""Which interpreters Ray can start its processes with."""

from __future__ import annotations

import re

from restore_dit.errors import UserError

_TO_A_SHELL = re.compile(r"[\s\"'\\$`&|;<>()*?#~!{}\[\]]")


def require_startable(python: str) -> None:
    """Ray starts workers by `bash -c "exec PYTHON …"`, without quotes: its servers come up, and no worker ever does.

    Raises:
        UserError: the interpreter's path has a space in it, or whatever else a shell takes for more than a letter.
    """
    found = _TO_A_SHELL.search(python)
    if found:
        raise UserError(
            f"{python}: Ray cannot start workers from a path with {found[0]!r} in it: make the environment in another "
            "folder"
        )

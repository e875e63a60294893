"""What every command-line program shares: how it ends, and where it shows progress."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from rich.console import Console

from restore_dit import threads
from restore_dit.errors import UserError

INTERRUPTED = 130
"""Exit status after Ctrl-C, by the convention of shells."""


def exit_status(run: Callable[[], int], program: str) -> int:
    """Runs a program and returns its exit status. A `UserError` becomes one line on standard error."""
    threads.watch()
    try:
        return run()
    except UserError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # keeps the interpreter's last flush quiet
        return 1


def console() -> Console:
    """The console on which progress is shown."""
    return Console(markup=False, emoji=False)  # folder names may contain brackets and colons

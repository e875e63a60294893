"""What every command-line program shares: how it ends, what Ctrl-C does to a training, and where progress is shown."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

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


@contextmanager
def stop_when_interrupted(request_stop: Callable[[], None], console: Console) -> Iterator[None]:
    """Context in which the first Ctrl-C (or SIGTERM) requests a stop after the current step and the second one
    interrupts immediately. No effect outside the main thread, the only one that may set signal handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        console.print("stopping after this step; press Ctrl-C again to stop immediately and lose unsaved progress")
        request_stop()
        signal.signal(number, signal.default_int_handler)

    try:
        for number in before:
            signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

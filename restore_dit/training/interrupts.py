"""Ctrl-C during a training: the first asks it to stop after the step, with its state saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console


@contextmanager
def stop_when_interrupted(request_stop: Callable[[], None], console: Console) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) asks to stop after the step, the second interrupts at once. Not in a thread other
    than the main one, where signals are somebody else's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        console.print("stopping after this step; once more to stop at once, losing what is not saved")
        request_stop()
        signal.signal(number, signal.default_int_handler)

    try:
        for number in before:
            signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Ctrl-C during training: the first one stops it after the current step, with its state saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console


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

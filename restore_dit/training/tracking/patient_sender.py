"""Sends things to a server from a thread, in order, and again later when it fails: nobody waits for the server."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

SECONDS_BEFORE_RETRY = 30.0
SECONDS_TO_FINISH = 90.0
"""For what is left at the end, the model among it."""
MOST_WAITING = 10_000
"""Things that wait for a server that is away; the oldest are given up beyond."""


class Refused(Exception):
    """The server does not want this, and never will."""


class Unavailable(Exception):
    """The server cannot be reached, or does not let us in; it may later."""


class PatientSender:
    """A queue of calls that raise `Refused` or `Unavailable`; anything else that they raise counts as refused.

    Args:
        warn: gets one line, the first time that something fails.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._warned = False
        self._waiting: deque[Callable[[], None]] = deque(maxlen=MOST_WAITING)
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)
        self._thread.start()

    def add(self, call: Callable[[], None]) -> None:
        """Makes the call as soon as those before it have succeeded."""
        with self._changed:
            self._waiting.append(call)
            self._changed.notify()

    def close(self) -> None:
        """Waits for what is left: as long as the server takes it, and `SECONDS_TO_FINISH` at most."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(SECONDS_TO_FINISH)
        if self._thread.is_alive():
            self._complain("it did not answer until the end")

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                call = self._waiting[0]
            try:
                call()
            except Unavailable as error:
                self._complain(str(error))
                with self._changed:
                    if self._closing:
                        return
                    self._changed.wait_for(lambda: self._closing, SECONDS_BEFORE_RETRY)
                continue
            except Refused as error:
                self._complain(str(error))
            except Exception as error:  # noqa: BLE001  of some library; what comes next may still be taken
                self._complain(f"{type(error).__name__}: {error}".splitlines()[0][:160])
            with self._changed:
                if self._waiting and self._waiting[0] is call:  # else the queue was full and dropped it
                    self._waiting.popleft()

    def _complain(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            self._warn(reason)

"""Sends calls to a server from a thread, in order and with retries, so that the caller never waits for the server."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

SECONDS_BEFORE_RETRY = 30.0
SECONDS_TO_FINISH = 90.0
"""Time for sending what is left at the end, including the model."""
MOST_WAITING = 10_000
"""Maximum number of queued calls while a server is unavailable; beyond it, the oldest are dropped."""


class Refused(Exception):
    """The server rejected the request permanently."""


class Unavailable(Exception):
    """The server cannot be reached or denies access; it may accept the request later."""


class RetryingSender:
    """A queue of calls that raise `Refused` or `Unavailable`; any other exception counts as refused.

    Args:
        warn: called with one line the first time a call fails.
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
        """Queues a call, made once all calls before it have succeeded or been refused."""
        with self._changed:
            self._waiting.append(call)
            self._changed.notify()

    def close(self) -> None:
        """Waits until the queue is empty, the server becomes unavailable, or `SECONDS_TO_FINISH` have passed."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(SECONDS_TO_FINISH)
        if self._thread.is_alive():
            self._warn_once("it did not respond before the end")

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
                self._warn_once(str(error))
                with self._changed:
                    if self._closing:
                        return
                    self._changed.wait_for(lambda: self._closing, SECONDS_BEFORE_RETRY)
                continue
            except Refused as error:
                self._warn_once(str(error))
            except Exception as error:  # noqa: BLE001  from a library; later calls may still succeed
                self._warn_once(f"{type(error).__name__}: {error}".splitlines()[0][:160])
            with self._changed:
                if self._waiting and self._waiting[0] is call:  # otherwise the queue was full and dropped it
                    self._waiting.popleft()

    def _warn_once(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            self._warn(reason)

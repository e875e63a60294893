"""The speed of training steps and the share of time spent waiting for data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

ItemT = TypeVar("ItemT")


class StepClock:
    """Time since the last report on one rank, excluding pauses for validation and saving."""

    def __init__(self, step: int = 0) -> None:
        self._step = step
        self._since = time.monotonic()
        self._waited = 0.0

    def waiting_for(self, items: Iterator[ItemT]) -> Iterator[ItemT]:
        """Yields the same items and adds up how long each took to arrive.

        Every step ends with the host reading a number from the device, so no computation is in flight during this wait.
        """
        while True:
            begun = time.monotonic()
            try:
                item = next(items)
            except StopIteration:
                return
            self._waited += time.monotonic() - begun
            yield item

    def lap(self, step: int) -> tuple[float, float]:
        """Steps per second, and the share of time (0 to 1) that this rank waited for data, since the last lap."""
        now = time.monotonic()
        seconds = max(now - self._since, 1e-9)
        speed, share = max(step - self._step, 1) / seconds, min(self._waited / seconds, 1.0)
        self._step, self._since, self._waited = step, now, 0.0
        return speed, share

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Context whose duration is excluded."""
        begun = time.monotonic()
        yield
        self._since += time.monotonic() - begun

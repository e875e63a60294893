"""The pace of a training on one rank: how fast steps go, how long the rank waits for data, and when all ranks look
together whether to stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from restore_dit.trainer import ranks
from restore_dit.trainer.monitor import Monitor

ItemT = TypeVar("ItemT")

MAX_STEPS_BETWEEN_LOOKS = 8
"""Maximum number of steps between two looks at the request to stop, so that a misjudged pace delays no stop."""


class StepClock:
    """Time since the last report on one rank, excluding pauses for validation and saving."""

    def __init__(self, step: int = 0, device: torch.device | None = None) -> None:
        self._on_gpu = device is not None and device.type == "cuda"
        self._step = step
        self._since = time.monotonic()
        self._waits: list[tuple[float, torch.cuda.Event | None, torch.cuda.Event | None]] = []

    def waiting_for(self, items: Iterator[ItemT]) -> Iterator[ItemT]:
        """Yields the same items and notes how long each took to arrive."""
        while True:
            begun, began = self._event(), time.monotonic()
            try:
                item = next(items)
            except StopIteration:
                return
            self._waits.append((time.monotonic() - began, begun, self._event()))
            yield item

    def lap(self, step: int) -> tuple[float, float]:
        """Steps per second, and the share of time (0 to 1) that this rank waited for data with nothing to compute,
        since the last lap. On a GPU, to be called when it has computed all steps."""
        now = time.monotonic()
        seconds = max(now - self._since, 1e-9)
        waited = sum(idle_seconds(*wait) for wait in self._waits)
        speed, share = max(step - self._step, 1) / seconds, min(waited / seconds, 1.0)
        self._step, self._since, self._waits = step, now, []
        return speed, share

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Context whose duration is excluded."""
        begun = time.monotonic()
        yield
        self._since += time.monotonic() - begun

    def _event(self) -> torch.cuda.Event | None:
        if not self._on_gpu:
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def idle_seconds(waited: float, begun: torch.cuda.Event | None = None, ended: torch.cuda.Event | None = None) -> float:
    """How long there was nothing to compute while the host waited. A GPU may still have been busy, because the host
    runs ahead of it; events at the begin and the end of the wait tell."""
    return waited if begun is None or ended is None else min(waited, begun.elapsed_time(ended) / 1000)


class StopLooks:
    """Asks rank 0's monitor whether to stop, and agrees with the other ranks, not at every step but about as often as
    the monitor's answer can change, and after every pause for validation or saving. Rank 0 knows the pace and says with
    every answer after how many steps all ranks look again, so that they look, and stop, after the same step."""

    def __init__(self, monitor: Monitor, step: int) -> None:
        self._monitor = monitor
        self._next = 0
        self._step, self._since = step, time.monotonic()

    def agreed(self, step: int, paused: bool = False) -> bool:
        """Whether all ranks stop after this step, in which they have `paused` or not."""
        if step < self._next and not paused:
            return False
        # Only rank 0 asks. All take its answer, so none stops at a step at which another does not.
        asked = ranks.rank() == 0 and self._monitor.stop_requested()
        stop, steps = ranks.from_all([float(asked), self._pace(step)])[0]
        self._next = step + int(steps)
        return bool(stop)

    def _pace(self, step: int) -> float:
        """Number of steps until the next look."""
        now = time.monotonic()
        seconds_each = (now - self._since) / max(step - self._step, 1)
        self._step, self._since = step, now
        return min(max(self._monitor.seconds_between_looks // max(seconds_each, 1e-9), 1), MAX_STEPS_BETWEEN_LOOKS)

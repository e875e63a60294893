"""What a running training reports, and the one request that it accepts: to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class GpuMemory:
    """Memory of one rank's GPU in bytes: used by tensors now, peak since the last report, and total."""

    used: int
    peak: int
    total: int


@dataclass(frozen=True)
class StepReport:
    """Averages since the last report.

    `data_wait_share` is the share of time (0 to 1) that the slowest rank spent waiting for its next batch;
    `gradient_norm` is that of the last step before clipping, if it is known; `gpu_memory` has one entry per
    rank and is empty on a CPU; `epoch` is None if the training has no epochs.
    """

    step: int
    total_steps: int
    epoch: int | None
    loss: float
    learning_rate: float
    examples_per_second: float
    seconds_left: float
    data_wait_share: float
    gradient_norm: float | None
    gpu_memory: tuple[GpuMemory, ...]

    @property
    def curves(self) -> dict[str, float]:
        """What the run's log keeps, by name."""
        return {name: getattr(self, name) for name in ("loss", "learning_rate", "data_wait_share")}

    @property
    def speed(self) -> dict[str, float]:
        """What is only drawn, by name."""
        norm = {} if self.gradient_norm is None else {"gradient_norm": self.gradient_norm}
        return {"examples_per_second": self.examples_per_second, **norm}


@dataclass(frozen=True)
class AdvancedReport:
    """The training has reached `step`: a sign of life between two step reports that are far apart."""

    step: int


@dataclass(frozen=True)
class ValidationReport:
    """A validation: its scores by name, the main ones as words, whether these weights are the best so far, and a
    PNG."""

    step: int
    scores: dict[str, float]
    summary: str
    is_best: bool
    picture: bytes | None = None


@dataclass(frozen=True)
class SavingReport:
    """A resume state is about to be saved: what was reported so far will not be reported again."""

    step: int


@dataclass(frozen=True)
class SavedReport:
    """A resume state has been saved."""

    step: int


@dataclass(frozen=True)
class StartedReport:
    """The training starts at `step`: 0, or the step of the saved state."""

    step: int
    total_steps: int
    parameters: int
    world_size: int


@dataclass(frozen=True)
class EndedReport:
    """The training has ended: finished, stopped on request, or failed with an error that the user can fix."""

    step: int
    finished: bool
    error: str | None = None


Report = StepReport | AdvancedReport | ValidationReport | SavingReport | SavedReport | StartedReport | EndedReport


class Monitor(Protocol):
    """Rank 0's connection to the process that the user watches. `seconds_between_looks`: how often it makes sense to
    ask whether to stop; 0: always."""

    seconds_between_looks: float

    def post(self, report: Report) -> None:
        """Hands over a report without waiting for it to be read."""

    def stop_requested(self) -> bool:
        """Whether the user asked to stop."""


class Sink(Protocol):
    """A destination for reports: the terminal, the run's log, a server."""

    def show(self, report: Report) -> None:
        """Takes a report. Must neither fail nor wait for anything external, since that would hold up the training."""

    def close(self) -> None:
        """The run is over. It failed unless an `EndedReport` without an error came before."""


class LocalMonitor:
    """A monitor in the same process."""

    seconds_between_looks = 0.0

    def __init__(self, show: Callable[[Report], None], should_stop: Callable[[], bool] = lambda: False) -> None:
        self._show = show
        self._should_stop = should_stop
        self._stop = False

    def post(self, report: Report) -> None:
        """Shows the report immediately."""
        self._show(report)

    def stop_requested(self) -> bool:
        """Whether `request_stop` was called or `should_stop` returns true."""
        return self._stop or self._should_stop()

    def request_stop(self) -> None:
        """Asks the training to save its state and stop; safe to call from a signal handler."""
        self._stop = True

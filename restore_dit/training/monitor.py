"""What a running fit tells the outside, and the one thing it is asked: to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class GpuMemory:
    """Bytes on one rank's GPU: taken by tensors now, at most since the last report, and all that the GPU has."""

    used: int
    peak: int
    total: int


@dataclass(frozen=True)
class StepReport:
    """Averages since the last report.

    `data_wait_share` is the share of the time (0 to 1) in which the rank that waited longest waited for its next
    batch; `gradient_norm` that of the last step, before clipping, where DeepSpeed knows it; `gpu_memory` by rank,
    empty on a CPU.
    """

    step: int
    total_steps: int
    epoch: int
    loss: float
    learning_rate: float
    examples_per_second: float
    seconds_left: float
    data_wait_share: float
    gradient_norm: float | None
    gpu_memory: tuple[GpuMemory, ...]


@dataclass(frozen=True)
class AdvancedReport:
    """The fit has come to `step`: a sign of life between two step reports that lie far apart."""

    step: int


@dataclass(frozen=True)
class ValidationReport:
    """A validation: missing pixels on the published scale, SAM in degrees; `seconds` that sampling a series took;
    `picture` is a PNG."""

    step: int
    psnr: float
    mae: float
    ssim: float
    sam: float
    seconds: float
    is_best: bool
    picture: bytes | None

    @property
    def averages(self) -> dict[str, float]:
        """The numbers by name."""
        return {name: getattr(self, name) for name in ("psnr", "mae", "ssim", "sam", "seconds")}


@dataclass(frozen=True)
class SavingReport:
    """A resume state is about to be committed: what was reported up to here will not be reported again."""

    step: int


@dataclass(frozen=True)
class SavedReport:
    """A resume state was committed."""

    step: int


@dataclass(frozen=True)
class StartedReport:
    """The fit begins at `step`, 0 or where a saved state left it."""

    step: int
    total_steps: int
    parameters: int
    world_size: int


@dataclass(frozen=True)
class EndedReport:
    """The fit is over: finished, stopped on request, or refused with an error that the user can mend."""

    step: int
    finished: bool
    error: str | None = None


Report = StepReport | AdvancedReport | ValidationReport | SavingReport | SavedReport | StartedReport | EndedReport


class Monitor(Protocol):
    """Rank 0's line to the process that the user watches."""

    def post(self, report: Report) -> None:
        """Hands over a report; does not wait for anybody to read it."""

    def stop_requested(self) -> bool:
        """Whether the user asked to stop."""


class Sink(Protocol):
    """One place where reports go: the terminal, the run's log, a server."""

    def show(self, report: Report) -> None:
        """Takes a report; must neither fail nor wait for what lies outside, or it would hold up the training."""

    def close(self) -> None:
        """The run is over. It failed unless an `EndedReport` without error came before."""


class LocalMonitor:
    """A monitor in the same process."""

    def __init__(self, show: Callable[[Report], None], should_stop: Callable[[], bool] = lambda: False) -> None:
        self._show = show
        self._should_stop = should_stop
        self._stop = False

    def post(self, report: Report) -> None:
        """Shows the report at once."""
        self._show(report)

    def stop_requested(self) -> bool:
        """Whether `request_stop` was called, or somebody else wants it."""
        return self._stop or self._should_stop()

    def request_stop(self) -> None:
        """Asks the fit to save its state and stop; safe inside a signal handler."""
        self._stop = True

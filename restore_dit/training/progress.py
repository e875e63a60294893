"""Progress of a training: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from restore_dit.training.monitor import (
    AdvancedReport,
    EndedReport,
    Report,
    SavedReport,
    StartedReport,
    StepReport,
    ValidationReport,
)

SECONDS_BETWEEN_LINES = 10.0


class ProgressDisplay:
    """Shows reports as they arrive."""

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._name = name
        self._progress: Progress | None = None
        self._last_line = 0.0

    def show(self, report: Report) -> None:
        """Shows one report."""
        if isinstance(report, StartedReport):
            self._start(report)
        elif isinstance(report, StepReport):
            self._step(report)
        elif isinstance(report, AdvancedReport) and self._progress:
            self._progress.update(self._task, completed=report.step)
        elif isinstance(report, ValidationReport):
            best = " (best so far)" if report.is_best else ""
            self._print(
                f"step {report.step}: validation PSNR {report.psnr:.2f} dB, MAE {report.mae:.4f} "
                f"on missing pixels{best}"
            )
        elif isinstance(report, SavedReport) and self._progress is None:
            self._print(f"step {report.step}: state saved")
        elif isinstance(report, EndedReport):
            self.close()

    def close(self) -> None:
        """Removes the progress bar."""
        if self._progress:
            self._progress.stop()
            self._progress = None

    def _start(self, report: StartedReport) -> None:
        self.close()
        begun = f"resuming at step {report.step}" if report.step else "starting"
        workers = "1 process" if report.world_size == 1 else f"{report.world_size} workers"
        self._print(
            f"{self._name}: {begun} of {report.total_steps}, {report.parameters / 1e6:.2f} M parameters, {workers}"
        )
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(),
                TextColumn("step {task.completed}/{task.total}  {task.fields[detail]}"),
                console=self._console,
            )
            self._task = self._progress.add_task(
                "", total=report.total_steps, completed=report.step, epoch="-", detail=""
            )
            self._progress.start()

    def _step(self, report: StepReport) -> None:
        left = timedelta(seconds=round(report.seconds_left))
        detail = (
            f"loss {report.loss:.5f}  {report.examples_per_second:.2f} examples/s  "
            f"{report.data_wait_share:.0%} waiting for data  {left} left"
        )
        if self._progress:
            self._progress.update(self._task, completed=report.step, epoch=report.epoch, detail=detail)
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES or report.step == report.total_steps:
            self._last_line = time.monotonic()
            self._print(f"epoch {report.epoch}  step {report.step}/{report.total_steps}  {detail}")

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

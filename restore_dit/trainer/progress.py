"""Shows the progress of a training, as a bar in a terminal or as plain lines elsewhere, and keeps the record of its
reports: `logs/metrics.jsonl` and TensorBoard events, including validation pictures."""

from __future__ import annotations

import io
import json
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import matplotlib.image
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from torch.utils.tensorboard import SummaryWriter

from restore_dit.data.storage import Location, exists, read_bytes, write_bytes_atomically
from restore_dit.trainer.monitor import (
    AdvancedReport,
    EndedReport,
    Report,
    SavedReport,
    SavingReport,
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
            self._print(f"step {report.step}: validation {report.summary}{best}")
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
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("step {task.completed}/{task.total}  {task.fields[detail]}"),
                console=self._console,
            )
            self._task = self._progress.add_task("", total=report.total_steps, completed=report.step, detail="")
            self._progress.start()

    def _step(self, report: StepReport) -> None:
        left = timedelta(seconds=round(report.seconds_left))
        epoch = "" if report.epoch is None else f"epoch {report.epoch}  "
        detail = (
            f"loss {report.loss:.5f}  {report.examples_per_second:.2f} examples/s  "
            f"{report.data_wait_share:.0%} waiting for data  {left} left"
        )
        if self._progress:
            self._progress.update(self._task, completed=report.step, description=epoch, detail=detail)
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES or report.step == report.total_steps:
            self._last_line = time.monotonic()
            self._print(f"{epoch}step {report.step}/{report.total_steps}  {detail}")

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


class RunLog:
    """Writes logs into the run's folder; on object storage only when a state is saved, since objects cannot be appended
    to."""

    def __init__(self, logs: Location) -> None:
        self._logs = logs
        self._metrics = logs.join("metrics.jsonl")
        self._lines = read_bytes(self._metrics) if exists(self._metrics) else b""
        self._temporary = None if logs.is_local else tempfile.TemporaryDirectory()
        self._folder = Path(self._temporary.name) if self._temporary else Path(logs.join("tensorboard").path)
        self._writer: SummaryWriter | None = None

    def show(self, report: Report) -> None:
        """Records one report."""
        if isinstance(report, StartedReport):
            self._forget_after(report.step)
            # TensorBoard itself drops events of steps that are computed again after resuming.
            self._writer = SummaryWriter(str(self._folder), purge_step=report.step)
        elif isinstance(report, StepReport):
            self._scalars(report.step, report.curves)
            peaks = {f"gpu_memory_peak/rank_{rank}": gpu.peak for rank, gpu in enumerate(report.gpu_memory)}
            self._scalars(report.step, report.speed | peaks, kept=False)
        elif isinstance(report, ValidationReport):
            self._scalars(report.step, {f"validation/{name}": value for name, value in report.scores.items()})
            if report.picture and self._writer:
                image = matplotlib.image.imread(io.BytesIO(report.picture), format="png")[..., :3]
                self._writer.add_image("validation/series", np.asarray(image), report.step, dataformats="HWC")
        elif isinstance(report, SavingReport):
            self.flush()

    def flush(self) -> None:
        """Writes everything to the run's folder."""
        if self._lines:
            write_bytes_atomically(self._metrics, self._lines)
        if self._writer:
            self._writer.flush()
        if self._temporary:
            for file in self._folder.iterdir():
                write_bytes_atomically(self._logs.join("tensorboard", file.name), file.read_bytes())

    def close(self) -> None:
        """Flushes a last time and closes the logs."""
        self.flush()
        if self._writer:
            self._writer.close()
        if self._temporary:
            self._temporary.cleanup()

    def _scalars(self, step: int, values: dict[str, float], *, kept: bool = True) -> None:
        if kept:
            self._lines += json.dumps({"step": step, **values}).encode() + b"\n"
        for name, value in values.items():
            if self._writer:
                self._writer.add_scalar(name, value, step)

    def _forget_after(self, step: int) -> None:
        """Drops lines of steps after the last saved state, which are computed and recorded again."""
        kept = [line for line in self._lines.splitlines(keepends=True) if json.loads(line)["step"] <= step]
        self._lines = b"".join(kept)

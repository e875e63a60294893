"""The permanent record of a run's reports: `logs/metrics.jsonl` and TensorBoard events, including validation
pictures."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import matplotlib.image
import numpy as np
from torch.utils.tensorboard import SummaryWriter

from restore_dit.data.storage import Location, exists, read_bytes, write_bytes_atomically
from restore_dit.training.monitor import Report, SavingReport, StartedReport, StepReport, ValidationReport


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
            self._scalars(
                report.step,
                {"loss": report.loss, "learning_rate": report.learning_rate, "data_wait_share": report.data_wait_share},
            )
            machine = {"examples_per_second": report.examples_per_second}
            machine |= {f"gpu_memory_peak/rank_{rank}": gpu.peak for rank, gpu in enumerate(report.gpu_memory)}
            if report.gradient_norm is not None:
                machine["gradient_norm"] = report.gradient_norm
            self._scalars(report.step, machine, kept=False)
        elif isinstance(report, ValidationReport):
            self._scalars(report.step, {f"validation/{name}": value for name, value in report.averages.items()})
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

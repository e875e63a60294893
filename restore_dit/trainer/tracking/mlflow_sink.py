"""Sends the reports of a training to an MLflow server that may be unavailable."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from functools import partial

from restore_dit.data.storage import exists
from restore_dit.errors import UserError
from restore_dit.trainer.monitor import EndedReport, Report, StartedReport, StepReport, ValidationReport
from restore_dit.trainer.task import Task
from restore_dit.trainer.tracking.mlflow_run import MlflowRun, RetryingSender


def require_mlflow() -> None:
    """Raises `UserError` if MLflow is not installed."""
    if importlib.util.find_spec("mlflow") is None:
        raise UserError("tracking.mlflow needs MLflow's client: pip install 'restore-dit[mlflow]'")


class MlflowSink:
    """Sends parameters, curves and pictures as they arrive, and the model at the end.

    Args:
        warn: called with one line if the server cannot be used; the training continues without it.
    """

    def __init__(self, task: Task, warn: Callable[[str], None]) -> None:
        tracking = task.tracking
        assert tracking.mlflow is not None
        uri = tracking.mlflow
        self._model = task.folder.model
        self._run = MlflowRun(task, uri, tracking.experiment)
        self._sender = RetryingSender(
            lambda reason: warn(
                f"{uri}: MLflow cannot be used ({reason}); the training continues, and its own logs are complete"
            )
        )
        self._status = "FAILED"

    def show(self, report: Report) -> None:
        """Queues what the server should receive from a report."""
        if isinstance(report, StartedReport):
            self._metrics(report.step, workers=report.world_size, parameters=report.parameters)
        elif isinstance(report, StepReport):
            values = {
                "loss": report.loss,
                "learning_rate": report.learning_rate,
                "examples_per_second": report.examples_per_second,
                "data_wait_share": report.data_wait_share,
            }
            if report.gradient_norm is not None:
                values["gradient_norm"] = report.gradient_norm
            if report.gpu_memory:
                values["gpu_memory_peak"] = max(memory.peak for memory in report.gpu_memory)
            self._metrics(report.step, **values)
        elif isinstance(report, ValidationReport):
            self._metrics(report.step, **{f"validation/{name}": value for name, value in report.scores.items()})
            if report.picture is not None:
                self._sender.add(partial(self._run.log_picture, report.picture, report.step))
        elif isinstance(report, EndedReport) and report.error is None:
            self._status = "FINISHED" if report.finished else "KILLED"

    def close(self) -> None:
        """Sends the model of a finished run and ends the run on the server, if it still responds."""
        if self._status == "FINISHED" and exists(self._model):
            self._sender.add(partial(self._run.log_model, self._model))
        self._sender.add(partial(self._run.end, self._status))
        self._sender.close()

    def _metrics(self, step: int, **values: float) -> None:
        self._sender.add(partial(self._run.log_metrics, values, step, int(time.time() * 1000)))

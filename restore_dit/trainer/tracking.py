"""A training run on an MLflow server, in addition to the run's own logs, and the same one after resuming. Every call
may wait for the network, so a thread sends them, in order and with retries, and the caller never waits for the
server."""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from restore_dit.data.storage import Location, exists, is_folder, list_names, read_bytes, write_bytes_atomically
from restore_dit.errors import UserError
from restore_dit.program import version_tags
from restore_dit.trainer.monitor import EndedReport, Report, StartedReport, StepReport, ValidationReport
from restore_dit.trainer.task import Task

SECONDS_BEFORE_RETRY = 30.0
SECONDS_TO_FINISH = 90.0
"""Time for sending what is left at the end, including the model."""
MAX_WAITING = 10_000
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
        self._waiting: deque[Callable[[], None]] = deque(maxlen=MAX_WAITING)
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
                # It stays in the queue until it has succeeded, so that none is lost when the server fails during it.
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


FILE = "mlflow.json"
"""File in the run's folder that names the server and the run on it."""

MAX_AT_ONCE = 100
"""Maximum number of parameters in one request to the server."""


class MlflowRun:
    """The run on the server that corresponds to a training run.

    All methods raise `Refused` or `Unavailable`. Credentials come from MLflow's own variables (`MLFLOW_TRACKING_TOKEN`,
    or `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`).
    """

    def __init__(self, task: Task, uri: str, experiment: str) -> None:
        # Before MLflow is imported: disable telemetry, and avoid waiting minutes for an unreachable server.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # we give one warning ourselves
        self._task = task
        self._uri = uri
        self._experiment = experiment
        self._place = task.folder.location.join(FILE)
        self._run_id: str | None = None
        self._begun = False

    def log_metrics(self, values: Mapping[str, float], step: int, milliseconds: int) -> None:
        """Adds points to the metric curves."""
        from mlflow.entities import Metric

        with self._server() as (client, run_id):
            client.log_batch(run_id, metrics=[Metric(*item, milliseconds, step) for item in values.items()])

    def log_picture(self, png: bytes, step: int) -> None:
        """Adds a validation picture."""
        from PIL import Image

        with self._server() as (client, run_id):
            client.log_image(run_id, Image.open(io.BytesIO(png)).convert("RGB"), key="validation", step=step)

    def log_model(self, model: Location) -> None:
        """Copies the model directory, at any location, into the run's artifacts as `model`."""
        with self._server() as (client, run_id), tempfile.TemporaryDirectory() as folder:
            # MLflow takes a folder on this machine, and the model may be on S3.
            for name in list_names(model):
                if not is_folder(model.join(name)):
                    Path(folder, name).write_bytes(read_bytes(model.join(name)))
            client.log_artifacts(run_id, folder, "model")

    def end(self, status: str) -> None:
        """Ends the run as `FINISHED`, `KILLED` (stopped, may continue) or `FAILED`."""
        with self._server() as (client, run_id):
            client.set_terminated(run_id, status)

    @contextmanager
    def _server(self) -> Iterator[tuple[Any, str]]:
        """The client and the id of the run, created if needed; translates errors to `Refused` and `Unavailable`.

        If the server keeps artifacts in a separate store, this process writes to it directly. An error of that store
        counts as refused, because curves and the end of the run must not wait for it.
        """
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        try:
            client = MlflowClient(self._uri)
            yield client, self._begin(client)
        except MlflowException as error:
            status = error.get_http_status_code()
            kind = Refused if 400 <= status < 500 and status not in (401, 403, 408, 429) else Unavailable
            raise kind(_first_line(error)) from None
        except (Boto3Error, BotoCoreError, ClientError) as error:
            raise Refused(f"its artifact store: {_first_line(error)}") from None
        except (OSError, UserError) as error:
            raise Unavailable(_first_line(error)) from None

    def _begin(self, client: Any) -> str:
        if self._run_id is None:
            self._run_id = self._known(client) or self._created(client)
        if not self._begun:
            # Written before the run is described, so that a training that is killed now
            # continues this run instead of creating another.
            write_bytes_atomically(self._place, json.dumps({"server": self._uri, "run": self._run_id}).encode())
            self._describe(client, self._run_id)
            self._begun = True
        return self._run_id

    def _known(self, client: Any) -> str | None:
        """The run started by an earlier part of this training, unless it has been deleted."""
        from mlflow.exceptions import MlflowException

        if not exists(self._place):
            return None
        known = json.loads(read_bytes(self._place))
        if known["server"] != self._uri:
            return None
        try:
            run = client.get_run(known["run"])
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return run.info.run_id if run.info.lifecycle_stage == "active" else None

    def _created(self, client: Any) -> str:
        experiment = client.get_experiment_by_name(self._experiment)
        number = experiment.experiment_id if experiment else client.create_experiment(self._experiment)
        return client.create_run(number, run_name=self._task.name).info.run_id

    def _describe(self, client: Any, run_id: str) -> None:
        """Sets parameters and tags. MLflow does not allow parameters to change, so those of the first part of a run
        stay."""
        from mlflow.entities import Param, RunTag

        existing = client.get_run(run_id).data.params
        tree = self._task.folder.config.model_dump(mode="json", exclude={"tracking"})
        params = [Param(key, value) for key, value in flattened(tree).items() if key not in existing]
        for start in range(0, len(params), MAX_AT_ONCE):
            client.log_batch(run_id, params=params[start : start + MAX_AT_ONCE])
        # Unlike parameters, tags may change: they tell the version that continued the run.
        tags = version_tags() | {
            "restore_dit.run": self._task.folder.location.uri,
            "restore_dit.store_fingerprint": self._task.fingerprint,
        }
        client.log_batch(run_id, tags=[RunTag(*item) for item in tags.items()])
        client.update_run(run_id, status="RUNNING")


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"a": {"b": [1]}}` → `{"a.b": "[1]"}`."""
    found: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return found


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]


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
            peak = {"gpu_memory_peak": max(gpu.peak for gpu in report.gpu_memory)} if report.gpu_memory else {}
            self._metrics(report.step, **report.curves, **report.speed, **peak)
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

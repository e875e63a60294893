"""MLflow beside a training: its real client on its real file store, and servers that are away."""

import io
import socket
import sys
import threading
import time
from pathlib import Path

import boto3
import pytest
from PIL import Image
from rich.console import Console

from restore_dit.config import RunConfig, TrackingConfig, load
from restore_dit.errors import UserError
from restore_dit.trainer import tracking
from restore_dit.trainer.monitor import EndedReport, LocalMonitor, StepReport, ValidationReport
from restore_dit.trainer.run import fit_here
from restore_dit.trainer.tracking import MlflowSink, Refused, RetryingSender, Unavailable
from restore_dit.training.run import DenoiserTask, run_training
from restore_dit.training.setup import set_up
from tests.s3.ceph_server import CephServer


def tracked(config: RunConfig, name: str, uri: str, **training) -> RunConfig:
    return config.model_copy(
        update={
            "name": name,
            "tracking": TrackingConfig(mlflow=uri, experiment="tests"),
            "training": config.training.model_copy(update=training),
        }
    )


@pytest.mark.slow
def test_a_stopped_and_resumed_training_is_one_run_with_all_of_it(
    small_run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a store of MLflow's own that needs no server
    uri = (tmp_path / "mlflow").as_uri()
    config = tracked(small_run, "tracked", uri)
    task = DenoiserTask(set_up(config))
    task.claim()
    warnings: list[str] = []
    sink = MlflowSink(task, warnings.append)

    def show(report) -> None:
        sink.show(report)
        if isinstance(report, StepReport) and report.step == 5:
            monitor.request_stop()

    monitor = LocalMonitor(show)
    assert not fit_here(task, monitor)
    sink.close()

    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tests")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"

    again = config.model_copy(update={"training": config.training.model_copy(update={"log_every": 2})})
    assert run_training(again, Console(quiet=True)).finished
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "tracked"
    assert run.data.params["training.optimiser.learning_rate"] == "0.001"
    assert run.data.params["model.bands"].startswith('["B02"')
    assert run.data.params["training.log_every"] == "1"  # of the first part: a parameter never changes
    assert run.data.tags["restore_dit.version"]
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")]
    assert steps == [1, 2, 3, 4, 5, *range(6, task.total_steps + 1, 2)]
    psnr = client.get_metric_history(run.info.run_id, "validation/psnr")
    assert [metric.step for metric in psnr] == [*range(4, task.total_steps + 1, 4)]
    artifacts = tmp_path / "mlflow" / experiment.experiment_id / run.info.run_id / "artifacts"
    assert len(list((artifacts / "images").glob("*.png"))) == len(psnr)
    for file in Path(config.output, "tracked", "model").iterdir():
        assert (artifacts / "model" / file.name).read_bytes() == file.read_bytes()
    assert warnings == []


@pytest.fixture
def silent_server():
    """Takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.parametrize("server", ["silent", "nobody"])
def test_a_server_that_is_away_costs_one_line(
    small_run: RunConfig, silent_server: str, server: str, monkeypatch: pytest.MonkeyPatch, caplog, capfd
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "top-secret-token")
    monkeypatch.setattr(tracking, "SECONDS_TO_FINISH", 8.0)
    output = io.StringIO()
    uri = silent_server if server == "silent" else "http://127.0.0.1:9"
    config = tracked(small_run, f"away-{server}", uri, epochs=2)
    begun = time.monotonic()
    assert run_training(config, Console(file=output, width=500)).finished
    assert time.monotonic() - begun < 60
    said = [line for line in output.getvalue().splitlines() if "MLflow" in line]
    assert len(said) == 1, output.getvalue()
    assert uri in said[0]
    captured = capfd.readouterr()
    assert "top-secret-token" not in output.getvalue() + caplog.text + captured.out + captured.err


def test_what_a_server_missed_it_gets_when_it_is_back_in_order(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracking, "SECONDS_BEFORE_RETRY", 0.05)
    away, got, warnings = threading.Event(), [], []
    away.set()

    def call(number: int) -> None:
        if away.is_set():
            raise Unavailable("gone")
        if number == 2:
            raise Refused("no such thing")
        got.append(number)

    sender = RetryingSender(warnings.append)
    for number in range(5):
        sender.add(lambda number=number: call(number))
    time.sleep(0.12)
    assert got == []
    away.clear()
    sender.close()
    assert got == [0, 1, 3, 4]  # what is refused for good is left out and holds up nothing
    assert warnings == ["gone"]


def test_an_error_that_nobody_foresaw_costs_one_thing_and_one_line():
    got, warnings = [], []

    def call(number: int) -> None:
        if number < 2:
            raise LookupError("what is this\nand more")
        got.append(number)

    sender = RetryingSender(warnings.append)
    for number in range(4):
        sender.add(lambda number=number: call(number))
    sender.close()
    assert got == [2, 3]
    assert warnings == ["LookupError: what is this"]


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.parametrize("keys", ["right", "wrong", "none"])
def test_a_store_of_artifacts_that_does_not_let_us_in_holds_up_no_curves(
    small_run: RunConfig, tmp_path: Path, s3: CephServer, bucket: str, keys: str, monkeypatch: pytest.MonkeyPatch
):
    from mlflow import MlflowClient
    from mlflow.store.artifact import s3_artifact_repo

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    if keys == "wrong":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    elif keys == "none":
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it and MLflow remember the keys of a test before this one
    s3_artifact_repo._cached_get_s3_client.cache_clear()
    uri = (tmp_path / "mlflow").as_uri()
    client = MlflowClient(uri)
    experiment = client.create_experiment("tests", artifact_location=f"s3://{bucket}/mlflow")
    task = DenoiserTask(set_up(tracked(small_run, f"artifacts-{keys}", uri)))
    task.claim()
    warnings: list[str] = []
    sink = MlflowSink(task, warnings.append)
    picture = io.BytesIO()
    Image.new("RGB", (4, 4)).save(picture, "PNG")
    for step in (1, 2):
        scores = {"psnr": 20.0 + step, "mae": 0.1, "ssim": 0.9, "sam": 4.0, "seconds": 0.01}
        sink.show(ValidationReport(step, scores, "", is_best=False, picture=picture.getvalue()))
    sink.show(EndedReport(2, finished=True))
    sink.close()

    (run,) = client.search_runs([experiment])
    assert run.info.status == "FINISHED"
    assert [metric.value for metric in client.get_metric_history(run.info.run_id, "validation/psnr")] == [21.0, 22.0]
    s3_artifact_repo._cached_get_s3_client.cache_clear()
    found = s3.client().list_objects_v2(Bucket=bucket).get("Contents", [])
    if keys == "right":
        assert warnings == []
        assert len([item for item in found if item["Key"].endswith(".png")]) == 2
    else:
        (warning,) = warnings
        assert "artifact" in warning
        assert "\n" not in warning
        assert found == []


def test_closing_waits_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracking, "SECONDS_TO_FINISH", 0.1)
    warnings: list[str] = []
    sender = RetryingSender(warnings.append)
    sender.add(lambda: time.sleep(0.5))
    begun = time.monotonic()
    sender.close()
    assert time.monotonic() - begun < 0.4
    assert len(warnings) == 1


@pytest.mark.parametrize("address", ["https://me:hidden@mlflow.example", "https://mlflow.example/?token=hidden"])
def test_credentials_in_the_address_are_refused_and_not_repeated(address: str):
    with pytest.raises(UserError, match="MLFLOW_TRACKING_TOKEN") as error:
        load("tiny", [f"tracking.mlflow={address}"])
    assert "hidden" not in str(error.value)


def test_a_missing_client_is_one_line(small_run: RunConfig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r"pip install 'restore-dit\[mlflow\]'"):
        run_training(tracked(small_run, "no-client", "https://mlflow.example"), Console(quiet=True))
    assert not Path(small_run.output, "no-client").exists()

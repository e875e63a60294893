"""Training on Ray Train workers."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from restore_dit.config import WorkersConfig
from restore_dit.data import cluster_job, storage
from restore_dit.errors import UserError, user_error_behind
from restore_dit.trainer import resume_state
from restore_dit.trainer.loop import fit
from restore_dit.trainer.monitor import EndedReport, LocalMonitor, Report
from restore_dit.trainer.ranks import backend
from restore_dit.trainer.task import Steps, Task

POLL_SECONDS = 0.5

RankBatches = Callable[..., Steps]
"""(first step, end, rank=, world_size=) → that rank's `StepBatches`. It is pickled to every worker."""


@ray.remote(num_cpus=0)
class Mailbox:
    """Carries reports from rank 0 to the driver, and the driver's request to stop back to rank 0."""

    def __init__(self) -> None:
        self._reports: list[Report] = []
        self._stop = False
        self._refused = False

    def post(self, report: Report) -> None:
        self._reports.append(report)
        self._refused = self._refused or (isinstance(report, EndedReport) and report.error is not None)

    def refused(self) -> bool:
        return self._refused

    def collect(self) -> list[Report]:
        reports, self._reports = self._reports, []
        return reports

    def request_stop(self) -> None:
        self._stop = True

    def stop_requested(self) -> bool:
        return self._stop


class MailboxMonitor:
    """Rank 0's monitor on a cluster."""

    seconds_between_looks = POLL_SECONDS / 2

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def post(self, report: Report) -> None:
        """Sends the report. Waits only for an `EndedReport` to arrive, since the worker may exit right after it."""
        sent = self._mailbox.post.remote(report)
        if isinstance(report, EndedReport):
            ray.get(sent, timeout=60)

    def stop_requested(self) -> bool:
        """Asks the driver's mailbox."""
        return ray.get(self._mailbox.stop_requested.remote(), timeout=60)


def fit_on_cluster(
    task: Task, workers: WorkersConfig, monitor: LocalMonitor, stream: Callable[[], RankBatches]
) -> bool:
    """Trains on `workers.count` Ray Train workers and returns whether the run is finished.

    Requires a prior `ray.init`. A worker group that dies is replaced up to `workers.max_failures` times and continues
    from the last saved state. `stream` prepares the workers' batches once the cluster has room for them.

    Raises:
        UserError: the cluster lacks CPUs or GPUs, or a worker reports an error that the user can fix.
    """
    folder = task.folder
    if not _await_room(workers, monitor):
        monitor.post(EndedReport(step=resume_state.load_counters(folder.state).step, finished=False))
        return False
    # On the driver's node, since a mailbox on a worker's node would be lost with it, and the reports with the mailbox.
    mailbox = Mailbox.options(scheduling_strategy=cluster_job.on_this_node()).remote()  # type: ignore[attr-defined]
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"task": task, "mailbox": mailbox, "batches": stream()},
        scaling_config=ScalingConfig(
            num_workers=workers.count,
            use_gpu=workers.use_gpu,
            resources_per_worker=_resources(workers),
            placement_strategy=_placement(workers),
        ),
        torch_config=TorchConfig(backend=backend(workers.use_gpu)),
        run_config=ray.train.RunConfig(
            # A new name, since Ray Train would silently resume a known one; our own state decides where to continue.
            name=f"attempt-{uuid.uuid4().hex[:12]}",
            storage_path=folder.location.join("ray").path,
            storage_filesystem=folder.location.filesystem,
            failure_config=FailureConfig(max_failures=workers.max_failures),
        ),
    )
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    ended = _run(trainer, mailbox, monitor)
    if ended is None:
        raise UserError(f"{folder.location.uri}: the workers ended without reporting; see the log above")
    if ended.error is not None:
        raise UserError(ended.error)
    notes = folder.location.join("ray")  # Ray Train's own files, useless once the attempt is over
    if storage.is_folder(notes):
        storage.delete_folder(notes)
    return ended.finished


def _resources(workers: WorkersConfig) -> dict[str, float]:
    """Resources reserved per worker."""
    return {"CPU": workers.cpus_each} | ({"GPU": 1.0} if workers.use_gpu else {})


def _placement(workers: WorkersConfig) -> str:
    """Ray's placement strategy for the workers."""
    return "SPREAD" if workers.spread else "PACK"


def _await_room(workers: WorkersConfig, monitor: LocalMonitor) -> bool:
    """Waits until the cluster has room for the workers and the data stream. Without this check, workers that wait for
    CPUs that never become free, or that leave none to the stream, would hang silently. Returns False if the user
    stopped the wait.

    Raises:
        UserError: the cluster does not have enough CPUs or GPUs, or they did not become free within the maximum wait.
    """
    bundles = [_resources(workers) for _ in range(workers.count)] + [{"CPU": workers.data_cpus}]
    advice = (
        f"lower workers.count ({workers.count}), workers.cpus_each ({workers.cpus_each:g}) or workers.data_cpus "
        f"({workers.data_cpus:g}), such as workers.cpus_each=0.5 workers.data_cpus=0.5, or set workers.wait_minutes"
    )
    return cluster_job.await_room(
        bundles,
        strategy=_placement(workers),
        minutes=workers.wait_minutes,
        advice=advice,
        stop=monitor.stop_requested,
    )


def _run(trainer: TorchTrainer, mailbox: Any, monitor: LocalMonitor) -> EndedReport | None:
    """Runs the trainer in a thread, so that Ctrl-C reaches this one as a request to stop, instead of aborting Ray
    Train."""
    failure: list[BaseException] = []

    def target() -> None:
        try:
            trainer.fit()
        except BaseException as error:  # noqa: BLE001 - handed to the caller below
            failure.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    ended: EndedReport | None = None
    asked = False
    while True:
        # Asked before the last collection: reports that arrive in between are then still collected.
        alive = thread.is_alive()
        for report in ray.get(mailbox.collect.remote(), timeout=60):
            monitor.post(report)
            ended = report if isinstance(report, EndedReport) else ended
        if not alive:
            break
        if monitor.stop_requested() and not asked:
            asked = True
            mailbox.request_stop.remote()
        time.sleep(POLL_SECONDS)
    # A worker's own message says more than Ray's account of the worker that raised it.
    if failure and (ended is None or ended.error is None):
        raise failure[0]
    return ended


def _worker(config: dict[str, Any]) -> None:
    """The training on one rank."""
    if ray.get(config["mailbox"].refused.remote(), timeout=60):
        return  # an error that only the user can fix would recur in a new worker group
    monitor = MailboxMonitor(config["mailbox"])
    context = ray.train.get_context()
    ranks = {"rank": context.get_world_rank(), "world_size": context.get_world_size()}
    # `report` is a barrier, so every rank must call it equally often: all pause after the same steps.
    try:
        fit(config["task"], partial(config["batches"], **ranks), monitor, on_pause=lambda: ray.train.report({}))
    except Exception as error:
        user_error = user_error_behind(error)
        if user_error is not None:
            monitor.post(EndedReport(step=-1, finished=False, error=str(user_error)))
        raise  # so that Ray ends the other ranks, which wait for this one

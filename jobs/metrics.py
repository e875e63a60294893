"""Metrics that a job publishes through Ray, whose agent on each node exports them to Prometheus.

Prometheus sees their names with the prefix `ray_`. Only the driver publishes, so each metric has one value per job.
Without Ray, nothing is published.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from typing import Any

from restore_dit.trainer.monitor import (
    AdvancedReport,
    EndedReport,
    Report,
    SavedReport,
    StartedReport,
    StepReport,
    ValidationReport,
)

SECONDS_BETWEEN_REPEATS = 4.0
"""Ray drops a gauge 20 s after it was last set (twice its interval of 10 s), even if the process is alive. A job
therefore keeps setting its gauges, and those of a dead job disappear by themselves."""

RUNNING = "restore_dit_job_running"
NODES_LOST = "restore_dit_job_nodes_lost"

DESCRIPTIONS = {
    RUNNING: "1 while the job runs, 0 once it has ended; absent without a 0 if it was killed",
    NODES_LOST: "nodes lost by the cluster since the job started, except those removed by its autoscaler",
    "restore_dit_tiles_planned": "tiles that the job has to process",
    "restore_dit_tiles_done": "tiles processed, including failed ones",
    "restore_dit_tiles_failed": "tiles that failed",
    "restore_dit_training_last_progress_timestamp_seconds": "Unix time of the last progress of the training",
    "restore_dit_training_worker_group_starts": "worker groups started; more than 1 after a worker died",
    "restore_dit_training_workers": "training processes",
    "restore_dit_training_step": "optimiser steps completed",
    "restore_dit_training_steps_planned": "optimiser steps planned for the whole run",
    "restore_dit_training_saved_step": "optimiser step of the last saved training state",
    "restore_dit_training_epoch": "passes over the training tiles",
    "restore_dit_training_loss": "mean loss since the last report",
    "restore_dit_training_learning_rate": "learning rate of the last step",
    "restore_dit_training_gradient_norm": "norm of the gradient before clipping",
    "restore_dit_training_examples_per_second": "training examples per second, all workers together",
    "restore_dit_training_data_wait_share": "share of time that the slowest worker waits for its next batch",
    "restore_dit_training_validation_psnr_db": "validation PSNR of missing pixels",
    "restore_dit_training_validation_mae": "validation MAE of missing pixels, on the scale of the published method",
    "restore_dit_training_gpu_memory_used_bytes": "GPU memory allocated by a worker's tensors",
    "restore_dit_training_gpu_memory_peak_bytes": "peak GPU memory of a worker's tensors since the last report",
    "restore_dit_training_gpu_memory_total_bytes": "total memory of a worker's GPU",
}
"""Descriptions by metric name. Tags: `job_name`, `run`, `submission`, and `rank` for the `gpu_memory` metrics."""

IDLE = 4
"""Ray's `DeathReason` of a node that its autoscaler drained."""
ENDED_BY_AUTOSCALER = "Terminated by autoscaler."
"""Ray's `DeathReasonMessage` of a node that its autoscaler ended otherwise: its group was too large or had changed."""


class JobGauges:
    """The gauges of one job, republished until `close`. Without a Ray cluster, it does nothing.

    Args:
        job: the job's name, for example `train`.
        run: name of the run; None: the submission id. Names need not be unique: the tag `submission` tells two runs
            with the same name apart.
    """

    def __init__(self, job: str, run: str | None = None) -> None:
        self._live = _has_cluster()
        submission = _submission()
        self._tags = {"job_name": job, "run": run or submission, "submission": submission}
        self._values: dict[tuple[str, str | None], float] = {}
        self._gauges: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.set(RUNNING, 1)
        if self._live:
            self.set(NODES_LOST, 0)
            threading.Thread(target=self._repeat, name="job-gauges", daemon=True).start()
            self._watcher = threading.Thread(target=self._watch_nodes, name="job-nodes", daemon=True)
            self._watcher.start()

    def set(self, name: str, value: float, rank: int | None = None) -> None:
        """Publishes the value of a metric, whose name is a key of `DESCRIPTIONS`."""
        if self._live:
            with self._lock:
                if not self._over.is_set():
                    key = (name, None if rank is None else str(rank))
                    self._values[key] = float(value)
                    self._publish(*key)

    def close(self) -> None:
        """Marks the job as ended, whether it succeeded or failed. Its other metrics expire within seconds."""
        if self._live and not self._over.is_set():
            self._over.set()
            self._watcher.join(
                SECONDS_BETWEEN_REPEATS
            )  # it queries the cluster, from which this process may be about to disconnect
            with self._lock:
                self._values = {(RUNNING, None): 0.0}
                self._publish(RUNNING, None)  # Ray exports it when the driver disconnects

    def _repeat(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_REPEATS):
            with self._lock:
                for key in self._values:
                    self._publish(*key)

    def _watch_nodes(self) -> None:
        """Runs in its own thread, so that a head that does not answer cannot block the other metrics."""
        from ray.exceptions import RayError

        before: set[str] | None = None
        while not self._over.wait(SECONDS_BETWEEN_REPEATS if before is not None else 0.5):
            try:
                lost = _nodes_lost()
            except (RayError, RuntimeError, OSError):
                continue  # retried; if the head stays unreachable, the job itself ends
            before = lost if before is None else before
            self.set(NODES_LOST, len(lost - before))

    def _publish(self, name: str, rank: str | None) -> None:
        from ray.util.metrics import Gauge

        tags = self._tags if rank is None else self._tags | {"rank": rank}
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, DESCRIPTIONS[name], tag_keys=tuple(tags))
        self._gauges[name].set(self._values[name, rank], tags)


class TrainingMetrics:
    """Publishes the reports of a training run as metrics."""

    def __init__(self, run: str) -> None:
        self._gauges = JobGauges("train", run)
        self._starts = 0
        self._advanced()

    def show(self, report: Report) -> None:
        """Publishes a report."""
        publish = self._publish
        if not isinstance(report, EndedReport):
            self._advanced()
        if isinstance(report, StartedReport):
            self._starts += 1
            publish(
                worker_group_starts=self._starts,
                workers=report.world_size,
                step=report.step,
                steps_planned=report.total_steps,
            )
        elif isinstance(report, AdvancedReport):
            publish(step=report.step)
        elif isinstance(report, StepReport):
            publish(
                step=report.step,
                epoch=report.epoch,
                loss=report.loss,
                learning_rate=report.learning_rate,
                gradient_norm=report.gradient_norm,
                examples_per_second=report.examples_per_second,
                data_wait_share=report.data_wait_share,
            )
            for rank, memory in enumerate(report.gpu_memory):
                publish(rank, gpu_memory_used_bytes=memory.used, gpu_memory_peak_bytes=memory.peak)
                publish(rank, gpu_memory_total_bytes=memory.total)
        elif isinstance(report, ValidationReport):
            publish(validation_psnr_db=report.scores.get("psnr"), validation_mae=report.scores.get("mae"))
        elif isinstance(report, SavedReport):
            publish(saved_step=report.step)

    def close(self) -> None:
        """Marks the training as ended."""
        self._gauges.close()

    def _advanced(self) -> None:
        self._publish(last_progress_timestamp_seconds=time.time())

    def _publish(self, rank: int | None = None, **values: float | None) -> None:
        for name, value in values.items():
            if value is not None:
                self._gauges.set(f"restore_dit_training_{name}", value, rank)


class TileMetrics:
    """Progress metrics of a job that processes tiles."""

    def __init__(self, job: str) -> None:
        self._gauges = JobGauges(job)

    def show(self, done: int, failed: int, planned: int) -> None:
        """Publishes the numbers of tiles processed (including failed ones), failed, and planned."""
        self._gauges.set("restore_dit_tiles_done", done)
        self._gauges.set("restore_dit_tiles_failed", failed)
        self._gauges.set("restore_dit_tiles_planned", planned)

    def close(self) -> None:
        """Marks the job as ended."""
        self._gauges.close()


def _has_cluster() -> bool:
    """Whether this process is connected to Ray. Does not import Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def _nodes_lost() -> set[str]:
    """Ids of nodes that died without the autoscaler's doing. Ray's own failure count includes every node that is gone.

    A node that was told to terminate (SIGTERM: an evicted pod, a reclaimed spot instance) counts as lost.
    """
    import ray

    return {
        node["NodeID"]
        for node in ray.nodes()
        if not node["Alive"] and node["DeathReason"] != IDLE and node["DeathReasonMessage"] != ENDED_BY_AUTOSCALER
    }


def _submission() -> str:
    """The job's submission id, as `restore-dit job logs` takes it; for a job that was not submitted, a process id."""
    given = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    return given.get("metadata", {}).get("job_submission_id") or f"process-{os.getpid()}-{socket.gethostname()}"

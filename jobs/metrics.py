"""What a job publishes through Ray's metrics: each node's agent hands them to Prometheus.

Their names there begin with `ray_`. The driver alone publishes, so a metric has one value a job. Without Ray nothing
is published.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from typing import Any

from restore_dit.training.monitor import (
    AdvancedReport,
    EndedReport,
    Report,
    SavedReport,
    StartedReport,
    StepReport,
    ValidationReport,
)

SECONDS_BETWEEN_REPEATS = 4.0
"""A gauge is gone from a node's metrics 20 s after it was last set (twice Ray's interval of 10 s), even while its
process lives. So a job says its gauges again and again, and those of a dead job go away by themselves."""

RUNNING = "restore_dit_job_running"
NODES_LOST = "restore_dit_job_nodes_lost"

DESCRIPTIONS = {
    RUNNING: "1 while the job runs, 0 for the last time when it ends; gone without a 0: killed",
    NODES_LOST: "nodes that the cluster lost since the job began; those that its autoscaler took away do not count",
    "restore_dit_tiles_planned": "tiles that a job has to do",
    "restore_dit_tiles_done": "tiles that a job is through with, failed ones included",
    "restore_dit_tiles_failed": "tiles that a job could not do",
    "restore_dit_training_last_progress_timestamp_seconds": "Unix time at which the training last came further",
    "restore_dit_training_worker_group_starts": "worker groups that have begun: more than 1 after a worker died",
    "restore_dit_training_workers": "processes that train",
    "restore_dit_training_step": "optimiser steps done",
    "restore_dit_training_steps_planned": "optimiser steps of the whole run",
    "restore_dit_training_saved_step": "optimiser step of the last saved state",
    "restore_dit_training_epoch": "passes over the training tiles",
    "restore_dit_training_loss": "mean loss since the last report",
    "restore_dit_training_learning_rate": "learning rate of the last step",
    "restore_dit_training_gradient_norm": "norm of the gradient before clipping",
    "restore_dit_training_examples_per_second": "examples trained on a second, all workers together",
    "restore_dit_training_data_wait_share": "share of the time that the slowest worker waits for its next batch",
    "restore_dit_training_validation_psnr_db": "validation PSNR of missing pixels",
    "restore_dit_training_validation_mae": "validation MAE of missing pixels, published scale",
    "restore_dit_training_gpu_memory_used_bytes": "GPU memory that a worker's tensors take",
    "restore_dit_training_gpu_memory_peak_bytes": "most GPU memory that a worker's tensors took since the last report",
    "restore_dit_training_gpu_memory_total_bytes": "memory of a worker's GPU",
}
"""Every metric by name. Tags: `job_name`, `run`, `submission`; `rank` where the name has `gpu_memory`."""

IDLE = 4
"""Ray's reason of a node's end where its autoscaler drained it."""
ENDED_BY_AUTOSCALER = "Terminated by autoscaler."
"""Ray's words where the autoscaler ends a node otherwise: its group has too many, or has changed."""


class JobGauges:
    """The gauges of one job, kept alive until `close`; nothing where this process has no Ray cluster.

    Args:
        job: the job's name, such as `train`.
        run: which of these; the id that the job was submitted by where there is no better name. Two jobs may have
            one name, so `submission` tells them apart.
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
        """Publishes a value of one of `DESCRIPTIONS`."""
        if self._live:
            with self._lock:
                if not self._over.is_set():
                    key = (name, None if rank is None else str(rank))
                    self._values[key] = float(value)
                    self._publish(*key)

    def close(self) -> None:
        """The job is over in an orderly way, whatever its result; all else that it published goes away soon."""
        if self._live and not self._over.is_set():
            self._over.set()
            self._watcher.join(SECONDS_BETWEEN_REPEATS)  # it asks the cluster, which this process may be about to leave
            with self._lock:
                self._values = {(RUNNING, None): 0.0}
                self._publish(RUNNING, None)  # Ray sends it off when the driver leaves the cluster

    def _repeat(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_REPEATS):
            with self._lock:
                for key in self._values:
                    self._publish(*key)

    def _watch_nodes(self) -> None:
        """In a thread of its own: a head that does not answer must not silence the rest."""
        from ray.exceptions import RayError

        before: set[str] | None = None
        while not self._over.wait(SECONDS_BETWEEN_REPEATS if before is not None else 0.5):
            try:
                lost = _nodes_lost()
            except (RayError, RuntimeError, OSError):
                continue  # asked again; a head that stays away ends the job itself
            before = lost if before is None else before
            self.set(NODES_LOST, len(lost - before))

    def _publish(self, name: str, rank: str | None) -> None:
        from ray.util.metrics import Gauge

        tags = self._tags if rank is None else self._tags | {"rank": rank}
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, DESCRIPTIONS[name], tag_keys=tuple(tags))
        self._gauges[name].set(self._values[name, rank], tags)


class TrainingMetrics:
    """A sink for the reports of a training run."""

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
            publish(validation_psnr_db=report.psnr, validation_mae=report.mae)
        elif isinstance(report, SavedReport):
            publish(saved_step=report.step)

    def close(self) -> None:
        """The training is over."""
        self._gauges.close()

    def _advanced(self) -> None:
        self._publish(last_progress_timestamp_seconds=time.time())

    def _publish(self, rank: int | None = None, **values: float | None) -> None:
        for name, value in values.items():
            if value is not None:
                self._gauges.set(f"restore_dit_training_{name}", value, rank)


class TileMetrics:
    """How far a job over tiles is."""

    def __init__(self, job: str) -> None:
        self._gauges = JobGauges(job)

    def show(self, done: int, failed: int, planned: int | None) -> None:
        """So many tiles are done, of which so many failed, of so many where that is known."""
        self._gauges.set("restore_dit_tiles_done", done)
        self._gauges.set("restore_dit_tiles_failed", failed)
        if planned is not None:
            self._gauges.set("restore_dit_tiles_planned", planned)

    def close(self) -> None:
        """The job is over."""
        self._gauges.close()


def _has_cluster() -> bool:
    """Whether this process is connected to Ray; asking does not load it."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def _nodes_lost() -> set[str]:
    """Nodes that are dead although the autoscaler did not want it: Ray's own count of failures has all that are gone.

    A node that is told to end (SIGTERM: an evicted pod, a spot instance taken back) counts as lost.
    """
    import ray

    return {
        node["NodeID"]
        for node in ray.nodes()
        if not node["Alive"] and node["DeathReason"] != IDLE and node["DeathReasonMessage"] != ENDED_BY_AUTOSCALER
    }


def _submission() -> str:
    """The id that the job was submitted by, which is also what `submit … logs` takes; else that of the process."""
    given = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    return given.get("metadata", {}).get("job_submission_id") or f"process-{os.getpid()}-{socket.gethostname()}"

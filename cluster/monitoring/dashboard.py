"""The Grafana dashboard. `python -m cluster.monitoring.dashboard > dashboard.json` writes the file to import."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

JOB = '{job_name=~"$job_name", run=~"$run", submission=~"$submission"}'
ONE_JOB = "SessionName, job_name, run, submission"
"""Labels that identify a job. Names alone do not: two jobs may share one, and Prometheus may watch several clusters."""
NAME = "{{job_name}} {{run}} {{submission}}"
TRAINING = "{{run}} {{submission}}"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS, WIDTH, HEIGHT = 24, 8, 7


@dataclass(frozen=True)
class Panel:
    """A time-series chart. Each query is an expression and the legend of its lines."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    description: str = ""
    log: bool = False
    most: float | None = None


def training(name: str, labels: str = ONE_JOB) -> str:
    """Expression with one line per training."""
    return f"max by ({labels}) (ray_restore_dit_training_{name}{JOB})"


def job(name: str) -> str:
    """Expression with one line per job."""
    return f"max by ({ONE_JOB}) (ray_restore_dit_{name}{JOB})"


def node(expression: str) -> tuple[tuple[str, str], ...]:
    """Query with one line per node."""
    return ((f"max by (instance) ({expression})", "{{instance}}"),)


ROWS: dict[str, tuple[Panel, ...]] = {
    "Jobs": (
        Panel("Running", ((job("job_running"), NAME),), most=1),
        Panel(
            "Tiles done",
            ((job("tiles_done"), f"{NAME} done"), (job("tiles_planned"), f"{NAME} planned")),
        ),
        Panel("Tiles failed", ((job("tiles_failed"), NAME),)),
        Panel(
            "Tiles per second",
            ((f"max by ({ONE_JOB}) (deriv(ray_restore_dit_tiles_done{JOB}[5m]))", NAME),),
            "cps",
        ),
    ),
    "Training": (
        Panel("Optimiser step", ((training("step"), TRAINING), (training("steps_planned"), f"{TRAINING} planned"))),
        Panel("Loss", ((training("loss"), TRAINING),), log=True),
        Panel("Learning rate", ((training("learning_rate"), TRAINING),), "sci"),
        Panel("Validation PSNR of missing pixels", ((training("validation_psnr_db"), TRAINING),), "dB"),
        Panel("Validation MAE of missing pixels", ((training("validation_mae"), TRAINING),)),
        Panel("Gradient norm before clipping", ((training("gradient_norm"), TRAINING),), log=True),
        Panel("Examples per second", ((training("examples_per_second"), TRAINING),), "cps"),
        Panel(
            "Waiting for data",
            ((training("data_wait_share"), TRAINING),),
            "percentunit",
            "Share of time that the slowest worker waits for its next batch. An alert fires above 0.3.",
            most=1,
        ),
        Panel(
            "Time since last progress",
            ((f"time() - {training('last_progress_timestamp_seconds')}", TRAINING),),
            "s",
            "Includes validation and saving. An alert fires after 15 minutes.",
        ),
        Panel(
            "GPU memory of a worker's tensors",
            (
                (training("gpu_memory_used_bytes", f"{ONE_JOB}, rank"), TRAINING + " rank {{rank}}"),
                (training("gpu_memory_peak_bytes", f"{ONE_JOB}, rank"), TRAINING + " rank {{rank}} peak"),
                (training("gpu_memory_total_bytes", f"{ONE_JOB}, rank"), TRAINING + " rank {{rank}} total"),
            ),
            "bytes",
        ),
        Panel(
            "Workers and worker group starts",
            ((training("workers"), f"{TRAINING} workers"), (training("worker_group_starts"), f"{TRAINING} starts")),
        ),
        Panel(
            "Saved step and epoch",
            ((training("saved_step"), f"{TRAINING} saved step"), (training("epoch"), f"{TRAINING} epoch")),
        ),
    ),
    "Cluster": (
        Panel(
            "Nodes",
            (
                ("sum(ray_cluster_active_nodes)", "alive"),
                ("sum(ray_node_failure_total)", "gone in total"),
                (job("job_nodes_lost"), f"lost by {NAME}"),
            ),
            description="Gone: all nodes that left, including idle ones removed by the autoscaler. Lost: the rest.",
        ),
        Panel("CPU", node("ray_node_cpu_utilization"), "percent", most=100),
        Panel("Memory", node("ray_node_mem_used / ray_node_mem_total"), "percentunit", most=1),
        Panel(
            "GPU",
            (("max by (instance, GpuIndex) (ray_node_gpus_utilization)", "{{instance}} {{GpuIndex}}"),),
            "percent",
        ),
        Panel(
            "GPU memory",
            (("max by (instance, GpuIndex) (ray_node_gram_used)", "{{instance}} {{GpuIndex}}"),),
            "decmbytes",
        ),
        Panel(
            "Object store",
            (
                ("sum by (instance) (ray_object_store_used_memory)", "{{instance}} in memory"),
                ('sum by (instance) (ray_object_store_memory{Location="SPILLED"})', "{{instance}} on disk"),
            ),
            "bytes",
        ),
        Panel("Disk", node("ray_node_disk_utilization_percentage"), "percent", most=100),
        Panel(
            "Network",
            (
                ("max by (instance) (ray_node_network_receive_speed)", "{{instance}} in"),
                ("max by (instance) (ray_node_network_send_speed)", "{{instance}} out"),
            ),
            "Bps",
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
                "panels": [],
            }
        )
        top += 1
        for index, panel in enumerate(row):
            x, y = index % (COLUMNS // WIDTH) * WIDTH, top + index // (COLUMNS // WIDTH) * HEIGHT
            panels.append(_chart(panel, len(panels) + 1, {"x": x, "y": y, "w": WIDTH, "h": HEIGHT}))
        top += -(-len(row) // (COLUMNS // WIDTH)) * HEIGHT
    return {
        "title": "RESTORE-DiT",
        "uid": "restore-dit",
        "tags": ["restore-dit", "ray"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
                _variable("job_name", "Job", "ray_restore_dit_job_running"),
                _variable("run", "Run", 'ray_restore_dit_job_running{job_name=~"$job_name"}'),
                _variable(
                    "submission", "Submission", 'ray_restore_dit_job_running{job_name=~"$job_name", run=~"$run"}'
                ),
            ]
        },
        "annotations": {"list": []},
        "panels": panels,
    }


def _chart(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    custom: dict[str, Any] = {"lineWidth": 1, "fillOpacity": 0, "showPoints": "auto", "spanNulls": False}
    if panel.log:
        custom["scaleDistribution"] = {"type": "log", "log": 10}
    defaults: dict[str, Any] = {"unit": panel.unit, "custom": custom}
    if not panel.log:
        defaults["min"] = 0
    if panel.most is not None:
        defaults["max"] = panel.most
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": DATASOURCE, "expr": expression, "legendFormat": legend}
            for index, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _variable(name: str, label: str, metric: str) -> dict[str, Any]:
    query = f"label_values({metric}, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def text() -> str:
    """The dashboard as JSON text."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    print(text(), end="")

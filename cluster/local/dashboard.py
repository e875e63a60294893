"""Requests to a cluster's dashboard."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from typing import Any

from cluster.local.record import ClusterRecord

SECONDS_TO_ANSWER = 10


@dataclass(frozen=True)
class NodeStatus:
    """State of a node, as reported by the cluster."""

    is_head: bool
    alive: bool
    agent_port: int
    cpus: float
    gpus: float
    object_store: int
    """Size of the object store, in bytes."""


@dataclass(frozen=True)
class JobStatus:
    """State of a submitted job."""

    job_id: str
    status: str


def nodes(record: ClusterRecord) -> list[NodeStatus]:
    """The nodes that the cluster knows, including dead ones.

    Raises:
        OSError: no answer, or the server is not a Ray dashboard.
    """
    found = []
    for node in ask(record, "/nodes?view=summary")["data"]["summary"]:
        raylet = node["raylet"]
        resources = raylet.get("resourcesTotal", {})
        found.append(
            NodeStatus(
                is_head=bool(raylet.get("isHeadNode")),
                alive=raylet.get("state") == "ALIVE",
                agent_port=int(raylet.get("dashboardAgentListenPort") or 0),
                cpus=resources.get("CPU", 0.0),
                gpus=resources.get("GPU", 0.0),
                object_store=int(resources.get("objectStoreMemory", 0)),
            )
        )
    return found


def jobs(record: ClusterRecord) -> list[JobStatus]:
    """The submitted jobs, in no particular order.

    Raises:
        OSError: as `nodes`.
    """
    return [
        JobStatus(job["submission_id"], job["status"]) for job in ask(record, "/api/jobs/") if job.get("submission_id")
    ]


def ask(record: ClusterRecord, path: str) -> Any:
    """The decoded JSON response to a GET request.

    Raises:
        OSError: as `nodes`.
    """
    token = record.token_file.read_text()
    request = urllib.request.Request(record.dashboard + path, headers={"Authorization": f"Bearer {token}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy
    with opener.open(request, timeout=SECONDS_TO_ANSWER) as response:
        try:
            return json.load(response)
        except ValueError:
            raise OSError(f"{record.dashboard} is not a Ray dashboard") from None

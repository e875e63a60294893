"""What Prometheus is told of the service."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """Counts of one process."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "restore_dit_requests", "Requests by what they asked for and how they were answered",
            ["route", "status"], registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "restore_dit_request_seconds", "From a request's header to its answer's", ["route"], registry=registry,
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
        )  # fmt: skip
        self._direct = Gauge("restore_dit_direct", "Small requests under way", registry=registry)
        self._jobs = Gauge("restore_dit_reconstructions", "Reconstructions that wait or run", registry=registry)

    def text(self, direct: int, jobs: int) -> bytes:
        """In Prometheus' text format."""
        self._direct.set(direct)
        self._jobs.set(jobs)
        return generate_latest(self._registry)

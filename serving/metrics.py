"""Prometheus metrics of one ingress process."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send


class Metrics:
    """The metrics and their registry."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "restore_dit_requests", "Requests by method, route and status",
            ["method", "route", "status"], registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "restore_dit_request_seconds", "Time from a request to the start of its response", ["route"],
            registry=registry, buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
        )  # fmt: skip
        self._under_way = Gauge(
            "restore_dit_requests_under_way", "Reconstruction requests in progress", registry=registry
        )
        self._jobs = Gauge("restore_dit_reconstructions", "Queued and running jobs", registry=registry)

    def text(self, under_way: int, jobs: int) -> bytes:
        """The metrics in the Prometheus text format."""
        self._under_way.set(under_way)
        self._jobs.set(jobs)
        return generate_latest(self._registry)


@cache
def metrics() -> Metrics:
    """The metrics of this process."""
    return Metrics()


class CountRequests:
    """Middleware that counts requests. It labels them by route, because callers could invent any number of paths."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles the request and records its status and time to the first byte."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.monotonic()

        async def counted(message: Any) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                metrics().requests.labels(scope["method"], route, str(message["status"])).inc()
                metrics().seconds.labels(route).observe(time.monotonic() - begin)
            await send(message)

        await self._app(scope, receive, counted)

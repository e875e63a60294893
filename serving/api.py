"""The ingress deployment, which answers HTTP requests."""

from __future__ import annotations

from typing import Any

from ray import serve

from serving.routes.application import application
from serving.routes.calls import Calls


@serve.deployment(max_ongoing_requests=512)
@serve.ingress()
class Api(Calls):
    """Answers requests and delegates the computation to other deployments."""

    def __serve_build_asgi_app__(self) -> Any:
        return application(self)

    async def ready(self) -> str:
        """Waits until the network is loaded and returns the name of the default model."""
        return await self.reconstructor.ready.remote()

    async def close(self) -> None:
        """Leaves queued and running jobs to the next service."""
        await self.job_manager.close.remote()

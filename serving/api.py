"""The process that answers HTTP."""

from __future__ import annotations

from typing import Any

from ray import serve

from serving.routes.application import application
from serving.routes.calls import Calls


@serve.deployment(max_ongoing_requests=512)
@serve.ingress()
class Api(Calls):
    """Answers requests; all work is done elsewhere."""

    def __serve_build_asgi_app__(self) -> Any:
        return application(self)

    async def ready(self) -> str:
        """Waits until the network is loaded; the default model's name."""
        return await self.reconstructor.ready.remote()

    async def close(self) -> None:
        """Keeps what waits or runs for the next service."""
        await self.desk.close.remote()

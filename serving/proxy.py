"""Middleware for Ray Serve's HTTP proxies, which turns the death of an ingress process into 503 and `Retry-After`
instead of an error. A proxy whose environment contains `cluster.local.node.SERVE_ENVIRONMENT` calls `middlewares`."""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

RETRY_SECONDS = 5
"""`Retry-After` of a response that says the service is temporarily unavailable."""


class UnavailableMiddleware:
    """Answers 503 in two cases. When the ingress process dies, Ray Serve ends the request without a response, which
    the client would see as 500. While the service starts, Ray Serve answers with its own 404, which, unlike the
    service's, is plain text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on and replaces a missing response, or Ray Serve's own 404."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                kind = dict(message.get("headers") or ()).get(b"content-type", b"")
                # Ray Serve's own 404 is held back, and with it its body, which follows as a message of its own.
                begun = not (message["status"] == 404 and kind.startswith(b"text/plain"))
            if begun:
                await send(message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, watched)
        if not begun:
            body = {"error": "temporarily unavailable: the service is starting or replacing one of its processes"}
            await JSONResponse(body, 503, {"Retry-After": str(RETRY_SECONDS)})(scope, receive, send)


def middlewares() -> list[Middleware]:
    """The middlewares that a proxy installs."""
    return [Middleware(UnavailableMiddleware)]

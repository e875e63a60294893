"""What Ray Serve's HTTP proxies say when the process that was to answer a request has died: that somebody else will,
not that something is wrong. A proxy calls `middlewares` where its environment has `ENVIRONMENT`."""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ENVIRONMENT = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serving.proxy:middlewares"}

RETRY_SECONDS = 5
"""When to ask again, where for a while nobody can answer."""


class NobodyThere:
    """Answers what has no answer: Ray Serve ends such a request without a word, and the client would read 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        await self._app(scope, receive, watched)
        if scope["type"] == "http" and not begun:
            told = {"error": "the process that was to answer has ended; another takes its place"}
            await JSONResponse(told, 503, {"Retry-After": str(RETRY_SECONDS)})(scope, receive, send)


def middlewares() -> list[Middleware]:
    """For a proxy."""
    return [Middleware(NobodyThere)]

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
    """Answers what has no answer: Ray Serve ends such a request without a word, and the client would read 500; and what
    nobody serves yet, while the service starts: Ray Serve's own 404, which, unlike the service's, is plain text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                kind = dict(message.get("headers") or ()).get(b"content-type", b"")
                begun = not (message["status"] == 404 and kind.startswith(b"text/plain"))
            if begun:
                await send(message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, watched)
        if not begun:
            told = {"error": "nobody is there to answer: the service starts, or one of its processes is being replaced"}
            await JSONResponse(told, 503, {"Retry-After": str(RETRY_SECONDS)})(scope, receive, send)


def middlewares() -> list[Middleware]:
    """For a proxy."""
    return [Middleware(NobodyThere)]

"""The ingress deployment, which answers HTTP requests, and its FastAPI application: routes, request metrics, error
responses and interactive documentation."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from ray import serve
from starlette.exceptions import HTTPException as StarletteHTTPException

from restore_dit import __version__
from restore_dit.errors import UserError
from serving.metrics import CountRequests
from serving.proxy import RETRY_SECONDS
from serving.routes import health, reconstructions, views
from serving.routes.calls import Calls

log = logging.getLogger(__name__)

DESCRIPTION = (
    "Fills the gaps of Sentinel-2 series: send a series as NetCDF or a ZIP of GeoTIFFs, or name one in storage."
)


def application(calls: Calls) -> FastAPI:
    """The application of one ingress process. Its pages load nothing from other hosts."""
    app = FastAPIOffline(title="RESTORE-DiT", version=__version__, description=DESCRIPTION, redoc_url=None)
    app.state.calls = calls
    for routes in (reconstructions, views, health):
        app.include_router(routes.router)
    app.add_middleware(CountRequests)
    app.add_exception_handler(StarletteHTTPException, _http_error)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _validation_error)  # type: ignore[arg-type]
    app.add_exception_handler(UserError, _user_error)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _unexpected_error)
    return app


async def _http_error(request: Request, error: StarletteHTTPException) -> JSONResponse:
    return JSONResponse({"error": str(error.detail)}, error.status_code, getattr(error, "headers", None))


async def _validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    where = next(str(part) for part in first["loc"] if part not in ("query", "header", "path"))
    what = first["msg"] + (f", not {str(first['input'])[:40]!r}" if first["type"] == "literal_error" else "")
    return JSONResponse({"error": " ".join(f"{where}: {what}".split())[:300]}, 422)


async def _user_error(request: Request, error: UserError) -> JSONResponse:
    """Errors that no caller can fix, such as unreachable storage or missing models. The details go to the log."""
    log.error("%s", error)
    return JSONResponse(
        {"error": "the service cannot reach its storage or models"}, 503, {"Retry-After": str(RETRY_SECONDS)}
    )


async def _unexpected_error(request: Request, error: Exception) -> JSONResponse:
    log.exception("unexpected error")
    return JSONResponse({"error": "internal error; the service's log has the details"}, 500)


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

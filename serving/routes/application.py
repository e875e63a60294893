"""The application that routes belong to: how it counts, what it says of errors, where its interface is described."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException as StarletteHTTPException

from restore_dit import __version__
from restore_dit.errors import UserError
from serving.metrics import CountRequests
from serving.proxy import RETRY_SECONDS
from serving.routes import condition, looking, reconstructions
from serving.routes.calls import Calls

log = logging.getLogger(__name__)

DESCRIPTION = "Sentinel-2 series without gaps: send one as NetCDF or a ZIP of GeoTIFFs, or name one in storage."


def application(calls: Calls) -> FastAPI:
    """All routes, for one ingress process. Its pages fetch nothing from elsewhere."""
    app = FastAPIOffline(title="RESTORE-DiT", version=__version__, description=DESCRIPTION, redoc_url=None)
    app.state.calls = calls
    for routes in (reconstructions, looking, condition):
        app.include_router(routes.router)
    app.add_middleware(CountRequests)
    app.add_exception_handler(StarletteHTTPException, _say)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _say_which)  # type: ignore[arg-type]
    app.add_exception_handler(UserError, _say_what)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _say_nothing)
    return app


async def _say(request: Request, error: StarletteHTTPException) -> JSONResponse:
    return JSONResponse({"error": str(error.detail)}, error.status_code, getattr(error, "headers", None))


async def _say_which(request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("query", "body", "path"))
    return JSONResponse({"error": " ".join(f"{where}: {first['msg']}".split())[:300]}, 422)


async def _say_what(request: Request, error: UserError) -> JSONResponse:
    """What no caller can mend: storage that is away, models that are gone."""
    log.error("%s", error)
    return JSONResponse({"error": "the service cannot reach what it needs"}, 503, {"Retry-After": str(RETRY_SECONDS)})


async def _say_nothing(request: Request, error: Exception) -> JSONResponse:
    log.exception("unexpected")
    return JSONResponse({"error": "the service failed; its operator finds why in its log"}, 500)

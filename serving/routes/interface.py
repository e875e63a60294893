"""The HTTP interface's types, its errors and the application that routes belong to."""

import logging
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from restore_dit import __version__
from restore_dit.config import SamplerName
from restore_dit.errors import UserError
from serving import records
from serving.answers import MEDIA_TYPES
from serving.metrics import CountRequests

log = logging.getLogger(__name__)

KINDS = {
    "application/x-netcdf": "netcdf",
    "application/netcdf": "netcdf",
    "application/x-hdf5": "netcdf",
    "application/zip": "geotiff",
    "application/json": "uri",
    "application/octet-stream": "",
    "": "",
}
"""Content type → kind of input; "": told by its first bytes."""

RETRY_SECONDS = 5


class ReconstructionState(BaseModel):
    """A reconstruction."""

    id: str
    status: records.Status
    done: int = Field(description="windows of the network that are done")
    total: int = Field(description="windows in all; 0 while nobody knows")
    error: str = ""
    links: dict[str, str] = Field(description="where to ask next, paths on this server")
    files: dict[str, str] = Field(description="results by name, paths on this server")


class ModelDescription(BaseModel):
    """A model that is served."""

    name: str
    default: bool
    bands: list[str]
    radar: list[str]
    frames: int = Field(description="dates that the network sees at once")
    steps: int = Field(description="diffusion steps that a request gets which names none")
    sampler: SamplerName
    metrics: dict[str, float]


class Problem(BaseModel):
    """What is wrong, in one line."""

    error: str


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        400: "the request cannot be understood",
        401: "no token, or a wrong one",
        404: "no such thing, or not yours",
        413: "larger than the service takes",
        415: "neither NetCDF, ZIP nor JSON",
        422: "the series or an option cannot be used",
        429: "too many requests; Retry-After says when",
        503: "for a while there is nobody to do it; Retry-After says when",
    }.items()
}

IMAGES: dict[int | str, dict[str, Any]] = {200: {"description": "the image", "content": {"image/png": {}}}}
SERIES: dict[int | str, dict[str, Any]] = {200: {"description": "the series", "content": {MEDIA_TYPES["netcdf"]: {}}}}

VIEWER = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
VIEWER_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src "
    "'self'; img-src 'self' blob: data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

app = FastAPI(
    title="RESTORE-DiT",
    version=__version__,
    description="Sentinel-2 series without gaps: send one as NetCDF or a ZIP of GeoTIFFs, or name one in storage.",
)
app.add_middleware(CountRequests)
bearer = HTTPBearer(auto_error=False, description="a token of this service")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


def problem(status: int, error: str, headers: dict[str, str] | None = None) -> HTTPException:
    """One line for the caller."""
    return HTTPException(status, " ".join(error.split()), headers)


@app.exception_handler(StarletteHTTPException)
async def _say(request: Request, error: StarletteHTTPException) -> JSONResponse:
    return JSONResponse({"error": str(error.detail)}, error.status_code, getattr(error, "headers", None))


@app.exception_handler(RequestValidationError)
async def _say_which(request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("query", "body", "path"))
    return JSONResponse({"error": " ".join(f"{where}: {first['msg']}".split())[:300]}, 422)


@app.exception_handler(UserError)
async def _say_what(request: Request, error: UserError) -> JSONResponse:
    """What no caller can mend: storage that is away, models that are gone."""
    log.error("%s", error)
    return JSONResponse({"error": "the service cannot reach what it needs"}, 503, {"Retry-After": str(RETRY_SECONDS)})


@app.exception_handler(Exception)
async def _say_nothing(request: Request, error: Exception) -> JSONResponse:
    log.exception("unexpected")
    return JSONResponse({"error": "the service failed; its operator finds why in its log"}, 500)

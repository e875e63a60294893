"""Routes of the viewer: its page, images of a result, pixel time series, a sample."""

from __future__ import annotations

import asyncio
from importlib import resources
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from restore_dit.data.exchange import netcdf
from serving.answers import MEDIA_TYPES
from serving.inputs import MAX_SAMPLES, simulated_sample
from serving.routes.calls import Caller, Calls, CallsHere
from serving.routes.interface import PROBLEMS, problem
from serving.views import Kind, Views

IMAGES: dict[int | str, dict[str, Any]] = {200: {"description": "the image", "content": {"image/png": {}}}}
SERIES: dict[int | str, dict[str, Any]] = {200: {"description": "the series", "content": {MEDIA_TYPES["netcdf"]: {}}}}

PAGE = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src "
    "'self'; img-src 'self' blob: data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


router = APIRouter(tags=["viewer"])


@router.get("/v1/reconstructions/{id}/views", responses=PROBLEMS)
async def views(calls: CallsHere, id: str, caller: Caller) -> dict[str, Any]:
    """Dates, bands, size, composites, and the share of gap pixels per date."""
    return (await _kept_views(calls, id, caller)).description


@router.get("/v1/reconstructions/{id}/views/{index}", response_class=Response, responses=IMAGES | PROBLEMS)
async def image(
    calls: CallsHere, id: str, index: int, caller: Caller, of: Kind = "clear", composite: str = "true_colour"
) -> Response:
    """The image of one date as PNG: reconstructed (`clear`), as acquired (`cloudy`), what each pixel rests on (`gaps`:
    amber filled, red extrapolated, grey unknown), or the mean standard deviation of the bands (`uncertainty`)."""
    views = await _kept_views(calls, id, caller)
    try:
        content = await asyncio.to_thread(views.image, index, of, composite)
    except KeyError:
        raise problem(404, "no such image") from None
    return Response(content, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


@router.get("/v1/reconstructions/{id}/pixels/{row}/{column}", responses=PROBLEMS)
async def pixel(calls: CallsHere, id: str, row: int, column: int, caller: Caller) -> dict[str, Any]:
    """The time series of one pixel: reflectance by band and a vegetation index, before and after reconstruction, and
    its gaps, with the standard deviation of filled values where the model estimates it."""
    views = await _kept_views(calls, id, caller)
    try:
        return await asyncio.to_thread(views.pixel, row, column)
    except KeyError:
        raise problem(404, "no such pixel") from None


@router.get("/v1/samples/simulated.nc", response_class=Response, responses=SERIES | PROBLEMS)
async def sample(calls: CallsHere, caller: Caller, seed: Annotated[int, Query(ge=0, le=MAX_SAMPLES)] = 0) -> Response:
    """A simulated series to try the service with."""
    content = await asyncio.to_thread(lambda: netcdf.encode(simulated_sample(seed)))
    return Response(content, media_type=MEDIA_TYPES["netcdf"])


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
@router.get("/viewer.css", include_in_schema=False)
@router.get("/viewer.js", include_in_schema=False)
async def viewer(calls: CallsHere, request: Request) -> Response:
    """The viewer."""
    name = request.url.path.strip("/") or "index.html"
    content = (resources.files("serving") / "viewer" / name).read_bytes()
    return Response(content, media_type=PAGE[name.rpartition(".")[2]], headers=PAGE_HEADERS)


async def _kept_views(calls: Calls, id_: str, caller: str) -> Views:
    state = await calls.reconstruction(id_, caller)
    views = Views(calls.records.result(id_).join("views"))
    if state.status != "done" or not await asyncio.to_thread(lambda: views.there):
        raise problem(404, "no views: the job is not done, or was submitted without views=true")
    return views

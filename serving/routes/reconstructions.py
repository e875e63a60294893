"""Routes of reconstructions: submit, follow, download, cancel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import ValidationError
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, RayServeException
from starlette.requests import ClientDisconnect

from restore_dit.config import ModelConfig, SamplerName
from restore_dit.data.exchange.limits import TooLarge
from restore_dit.data.storage import read_bytes
from restore_dit.errors import StorageUnavailable, UserError, user_error_behind
from restore_dit.series import TileSeries
from serving import records
from serving.answers import MEDIA_TYPES, outputs_of
from serving.inputs import NamedInput
from serving.records import ENDED, RequestOptions, State
from serving.routes.calls import MAX_STREAMS, Caller, Calls, CallsHere, busy, shown, unavailable
from serving.routes.interface import PROBLEMS, ReconstructionState, problem

KINDS = {
    "application/x-netcdf": "netcdf",
    "application/netcdf": "netcdf",
    "application/x-hdf5": "netcdf",
    "application/zip": "geotiff",
    "application/json": "uri",
    "application/octet-stream": "",
    "": "",
}
"""Content type → kind of input; "": inferred from the first bytes."""

MAX_JSON = 10_000
"""Maximum size, in bytes, of a JSON body that names a series."""

PASS_SECONDS = 10
"""How long a refused upload is read and discarded."""

SILENCE_SECONDS = 15
"""Interval of keep-alive comments in an event stream, so that no proxy closes the connection as idle."""


router = APIRouter(tags=["reconstructions"])


@router.post(
    "/v1/reconstructions",
    responses={
        200: {"description": "the series", "content": {MEDIA_TYPES["netcdf"]: {}, MEDIA_TYPES["geotiff"]: {}}},
        202: {"model": ReconstructionState, "description": "accepted as a job; poll it by its id"},
        **PROBLEMS,
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/x-netcdf": {"schema": {"type": "string", "format": "binary"}},
                "application/zip": {"schema": {"type": "string", "format": "binary"}},
                "application/json": {
                    "schema": NamedInput.model_json_schema(),
                    "examples": {
                        "a simulated series": {"value": {"sample": 1}},
                        "an object in storage": {"value": {"uri": "s3://bucket/series.nc"}},
                    },
                },
            },
        }
    },
)
async def reconstruct(
    calls: CallsHere,
    request: Request,
    caller: Caller,
    model: Annotated[str, Query(max_length=200, description="name of the model; empty: the default model")] = "",
    steps: Annotated[int | None, Query(ge=1, description="diffusion steps; none: the model's own")] = None,
    sampler: SamplerName | None = None,
    seed: Annotated[int, Query(ge=-(2**63), lt=2**63)] = 0,
    mask_dilation: Annotated[int | None, Query(ge=0, le=32, description="pixels to grow masks by")] = None,
    dates: Annotated[
        str, Query(max_length=20_000, description="ISO dates to return, comma-separated; empty: all")
    ] = "",
    outputs: Annotated[
        str, Query(max_length=200, description=f"comma-separated list of {', '.join(records.OUTPUTS)}")
    ] = "reflectance",
    format: Literal["netcdf", "geotiff", "json"] = "netcdf",
    wait: Annotated[bool, Query(description="answer a small request synchronously")] = True,
    views: Annotated[bool, Query(description="also keep images and pixel time series; always a job")] = False,
) -> Response:
    """Fills the gaps of a series. A small one is answered synchronously, a larger one becomes a job. So does any series
    with `wait=false`, `views=true`, `format=json`, or NetCDF with previews, whose result is several files."""
    if steps is not None and steps > calls.config.limits.steps:
        raise problem(422, f"steps: at most {calls.config.limits.steps} are allowed")
    wanted = RequestOptions(
        model=model, steps=steps, sampler=sampler, seed=seed, mask_dilation=mask_dilation, format=format,
        views=views, outputs=_outputs(outputs), dates=tuple(_listed(dates)),
    )  # fmt: skip
    full = calls.under_way >= calls.most_under_way
    if full or calls.of_token[caller] >= calls.config.limits.requests_a_token:  # before the upload takes memory
        await _drain(request)
        raise busy("the queue is full" if full else "too many concurrent requests with this token")
    calls.under_way += 1
    calls.of_token[caller] += 1
    try:
        return await _reconstruct(calls, request, caller, wanted, wait)
    finally:
        calls.under_way -= 1
        calls.of_token[caller] -= 1


async def _reconstruct(calls: Calls, request: Request, caller: str, wanted: RequestOptions, wait: bool) -> Response:
    kind, content = await _body(calls, request)
    model = await calls.described(wanted.model)
    given = outputs_of(model.config.model, model.config.model.bands)
    for output in wanted.outputs:
        if output not in given:
            raise problem(422, f"outputs: this model provides {', '.join(given)}, not {output}")
    name = "uri" if kind == "uri" else {"netcdf": "upload.nc", "geotiff": "upload.zip"}[kind]
    try:
        series = await calls.inputs.read(kind, name, content)
        _require(series, name, model.config.model, wanted)
    except StorageUnavailable:
        raise
    except UserError as error:
        raise problem(413 if isinstance(error, TooLarge) else 422, str(error)) from None
    except ValidationError:
        raise problem(422, "body: must be a JSON object with either a uri or a sample") from None
    height, width = series.size
    small = len(series.optical) * height * width <= calls.config.direct_pixels
    one_file = wanted.format == "geotiff" or (wanted.format == "netcdf" and "previews" not in wanted.outputs)
    if small and wait and one_file and not wanted.views:
        return await _answer_directly(calls, series, wanted)
    return await _accept(calls, caller, wanted, kind, name, content)


async def _answer_directly(calls: Calls, series: TileSeries, wanted: RequestOptions) -> Response:
    for attempt in range(4):
        try:
            content = await calls.reconstructor.direct.remote(series, wanted)
            return Response(content, media_type=MEDIA_TYPES[wanted.format])
        except (RayActorError, BackPressureError, RayServeException):
            await asyncio.sleep(0.5 * 2**attempt)
        except Exception as error:
            known = user_error_behind(error)
            if known is None:
                raise
            raise known if isinstance(known, StorageUnavailable) else problem(422, str(known)) from None
    raise unavailable()


async def _accept(calls: Calls, caller: str, wanted: RequestOptions, kind: str, name: str, content: bytes) -> Response:
    request = records.Request(
        id=calls.records.new_id(),
        owner=caller,
        wanted=wanted,
        kind=kind,
        name=name,
        created=time.time(),
    )
    # Writing the upload to storage may take as long as the caller may take to send it.
    full = await calls.ask_job_manager("accept", request, content, seconds=calls.config.limits.upload_seconds)
    if full:
        raise busy("the queue is full" if full == "queue" else "too many queued and running jobs with this token")
    state = shown(request.id, State())
    return JSONResponse(state.model_dump(), 202, {"Location": state.links["self"]})


@router.get("/v1/reconstructions/{id}", responses=PROBLEMS)
async def reconstruction(calls: CallsHere, id: str, caller: Caller) -> ReconstructionState:
    """Status and progress of a job, and links to its results."""
    return shown(id, await calls.reconstruction(id, caller))


@router.delete("/v1/reconstructions/{id}", responses=PROBLEMS)
async def cancel(calls: CallsHere, id: str, caller: Caller) -> ReconstructionState:
    """Cancels a job, or deletes one that has ended."""
    state = await calls.ask_job_manager("cancel", id, caller)
    if state is None:
        raise problem(404, "no such reconstruction")
    return shown(id, state)


@router.get(
    "/v1/reconstructions/{id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **PROBLEMS},
)
async def events(calls: CallsHere, id: str, caller: Caller) -> StreamingResponse:
    """Status and progress as server-sent events, until the job ends."""
    first = await calls.reconstruction(id, caller)
    if calls.streams[caller] >= MAX_STREAMS:
        raise busy("too many event streams with this token")

    async def stream() -> AsyncIterator[str]:
        calls.streams[caller] += 1
        try:
            async for text in messages():
                yield text
        finally:
            calls.streams[caller] -= 1

    async def messages() -> AsyncIterator[str]:
        state, sent, silent = first, "", 0.0
        while True:
            text = shown(id, state).model_dump_json()
            if text != sent:
                sent, silent = text, 0.0
                yield f"event: state\ndata: {text}\n\n"
            elif silent >= SILENCE_SECONDS:
                silent = 0.0
                yield ": keep-alive\n\n"
            if state.status in ENDED:
                return
            await asyncio.sleep(0.3)
            silent += 0.3
            try:
                state = await calls.reconstruction(id, caller)
            except HTTPException:
                return

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.get(
    "/v1/reconstructions/{id}/files/{name}",
    response_class=Response,
    responses={200: {"description": "the file", "content": {"application/octet-stream": {}}}, **PROBLEMS},
)
async def file(calls: CallsHere, id: str, name: str, caller: Caller) -> Response:
    """A result file of a job."""
    state = await calls.reconstruction(id, caller)
    if state.status != "done" or name not in state.files:
        raise problem(404, "no such file")
    place = calls.records.result(id).join(name)
    content = await asyncio.to_thread(read_bytes, place)
    return Response(
        content,
        media_type=MEDIA_TYPES.get("." + name.rpartition(".")[2], "application/octet-stream"),
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


async def _body(calls: Calls, request: Request) -> tuple[str, bytes]:
    """Kind and content of the request body, read no further than the size limit."""
    stated = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if stated not in KINDS:
        raise problem(415, "send application/x-netcdf, application/zip or application/json")
    limits = calls.config.limits
    most = MAX_JSON if KINDS[stated] == "uri" else limits.body_megabytes * 1_000_000
    content = bytearray()
    if int(request.headers.get("content-length") or 0) > most:
        raise problem(413, f"larger than {most / 1e6:g} MB")
    try:
        async with asyncio.timeout(limits.upload_seconds):
            async for chunk in request.stream():
                content += chunk
                if len(content) > most:
                    raise problem(413, f"larger than {most / 1e6:g} MB")
    except TimeoutError:
        raise problem(408, f"the upload took longer than {limits.upload_seconds} s") from None
    if not content:
        raise problem(400, "empty body: send a NetCDF file, a ZIP archive or a JSON object")
    kind = KINDS[stated] or ("geotiff" if content[:2] == b"PK" else "netcdf")
    return kind, bytes(content)


async def _drain(request: Request) -> None:
    """Reads and discards the body, because a client that is refused while still sending may never see the response."""
    with suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(PASS_SECONDS):
            async for _ in request.stream():
                pass


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _outputs(text: str) -> tuple[records.Output, ...]:
    found: list[records.Output] = []
    for name in _listed(text):
        known = next((output for output in records.OUTPUTS if output == name), None)
        if known is None:
            raise problem(422, f"outputs: {name[:40]!r} is not one of {', '.join(records.OUTPUTS)}")
        if known not in found:
            found.append(known)
    if not found:
        raise problem(422, f"outputs: name at least one of {', '.join(records.OUTPUTS)}")
    return tuple(found)


def _require(series: TileSeries, name: str, network: ModelConfig, wanted: RequestOptions) -> None:
    """Raises `UserError` if the series lacks a band that the model or a requested output needs, or a requested date."""
    try:
        bands = network.bands_of(series.optical.bands)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
    for output in wanted.outputs:
        if output not in outputs_of(network, bands):
            raise UserError(f"{name}: {output} cannot be computed from {', '.join(bands)}")
    there = {str(one) for one in series.optical.dates.astype("datetime64[D]")}
    for date in wanted.dates:
        if date not in there:
            raise UserError(f"dates: the series has no image of {date[:20]}")

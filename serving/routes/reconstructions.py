"""Routes of reconstructions: submit, follow, download, cancel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import ConfigDict, Field
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, RayServeException

from restore_dit.data.storage import read_bytes
from restore_dit.errors import StorageUnavailable, TooLarge, user_error_behind
from serving import records
from serving.answers import MEDIA_TYPES, outputs_of
from serving.inputs import NamedInput
from serving.records import ENDED, RequestOptions, State
from serving.routes.calls import MAX_STREAMS, Caller, Calls, CallsHere, busy, shown, unavailable
from serving.routes.interface import PROBLEMS, ReconstructionState, problem
from serving.routes.uploads import drain, received

KEY = (
    "a name that the caller gives this request: sent again with the same key, options and body, it is answered with "
    "the same job, as long as that is kept"
)


class Options(RequestOptions):
    """Query parameters."""

    model_config = ConfigDict(extra="forbid")

    wait: bool = Field(True, description="answer a small request synchronously")


router = APIRouter(tags=["reconstructions"])


@router.post(
    "/v1/reconstructions",
    responses={
        200: {"description": "the series", "content": {MEDIA_TYPES["netcdf"]: {}, MEDIA_TYPES["geotiff"]: {}}},
        202: {"model": ReconstructionState, "description": "accepted as a job; poll it by its id"},
        **PROBLEMS,
        400: PROBLEMS[400] | {"content": {"text/plain": {}}},  # the HTTP server's own, about a malformed header
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
    options: Annotated[Options, Query()],
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255, description=KEY)] = None,
) -> Response:
    """Fills the gaps of a series. A small one is answered synchronously, a larger one becomes a job. So does any series
    with an `Idempotency-Key`, `wait=false`, `views=true`, `format=json`, or NetCDF with previews, whose result is
    several files."""
    if options.steps is not None and options.steps > calls.config.limits.steps:
        raise problem(422, f"steps: at most {calls.config.limits.steps} are allowed")
    if options.samples > calls.config.limits.samples:
        raise problem(422, f"samples: at most {calls.config.limits.samples} are allowed")
    full = calls.under_way >= calls.most_under_way
    if full or calls.of_token[caller] >= calls.config.limits.requests_a_token:  # before the upload takes memory
        await drain(request)
        raise busy("the queue is full" if full else "too many concurrent requests with this token")
    calls.under_way += 1
    calls.of_token[caller] += 1
    try:
        async with received(request, calls.config.limits) as upload:
            wanted = RequestOptions(**options.model_dump(exclude={"wait"}))
            asked = records.Request(
                id=calls.records.new_id(), owner=caller, wanted=wanted, kind=upload.kind, name=upload.name,
                created=time.time(),
            )  # fmt: skip
            if idempotency_key is not None:
                fingerprint = sha256(f"{upload.digest} {upload.kind} {wanted.model_dump_json()}".encode()).hexdigest()
                key_id = calls.records.keyed_id(caller, idempotency_key)
                asked = asked.model_copy(
                    update={"id": key_id, "input": f"input-{asked.id}", "fingerprint": fingerprint}
                )
            model = await calls.described(options.model)
            given = outputs_of(model.config.model, model.config.model.bands)
            for output in options.outputs:
                if output not in given:
                    raise problem(422, f"outputs: this model provides {', '.join(given)}, not {output}")
            await asyncio.to_thread(calls.records.put_input, asked, upload.content)
        return await _reconstruct(calls, asked, wait=options.wait)
    finally:
        calls.under_way -= 1
        calls.of_token[caller] -= 1


async def _reconstruct(calls: Calls, asked: records.Request, *, wait: bool) -> Response:
    """Answers a request whose input is recorded, or makes it a job."""
    wanted = asked.wanted
    one_file = wanted.format == "geotiff" or (wanted.format == "netcdf" and "previews" not in wanted.outputs)
    becomes_job = False
    try:
        directly = wait and one_file and not wanted.views and not asked.fingerprint
        content = await _answer(calls, asked, directly=directly)
        becomes_job = content is None
    finally:
        if not becomes_job:
            await asyncio.shield(asyncio.to_thread(calls.records.discard_input, asked))
    if content is not None:
        return Response(content, media_type=MEDIA_TYPES[wanted.format])
    refusal = await calls.ask_job_manager("accept", asked)
    if refusal == "key":
        raise problem(422, "Idempotency-Key: was used for another request")
    if refusal:
        raise busy("the queue is full" if refusal == "queue" else "too many queued and running jobs with this token")
    state = shown(asked.id, await calls.reconstruction(asked.id, asked.owner))
    return JSONResponse(state.model_dump(), 202, {"Location": state.links["self"]})


async def _answer(calls: Calls, asked: records.Request, *, directly: bool) -> bytes | None:
    """The response body; None if the request, which is valid, has to become a job."""
    for attempt in range(4):
        try:
            return await calls.reconstructor.answer.remote(asked, directly=directly)
        except (RayActorError, BackPressureError, RayServeException):
            await asyncio.sleep(0.5 * 2**attempt)
        except Exception as error:
            known = user_error_behind(error)
            if known is None:
                raise
            if isinstance(known, StorageUnavailable):
                raise known from None
            raise problem(413 if isinstance(known, TooLarge) else 422, str(known)) from None
    raise unavailable()


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


async def _followed(calls: CallsHere, id: str, caller: Caller) -> State:
    """The state with which a stream of events begins: what refuses it comes before the stream."""
    if calls.streams[caller] >= MAX_STREAMS:
        raise busy("too many event streams with this token")
    return await calls.reconstruction(id, caller)


class Events(EventSourceResponse):
    """A stream of events. FastAPI documents errors, too, under the media type that is said here, but they are JSON."""

    media_type = None  # type: ignore[assignment]


@router.get(
    "/v1/reconstructions/{id}/events",
    response_class=Events,
    responses={200: {"content": {"text/event-stream": {}}}, **PROBLEMS},
)
async def events(
    calls: CallsHere, id: str, caller: Caller, state: Annotated[State, Depends(_followed)]
) -> AsyncIterator[ServerSentEvent]:
    """Status and progress as server-sent events, until the job ends."""
    calls.streams[caller] += 1
    try:
        sent = None
        while True:
            if (told := shown(id, state)) != sent:
                sent = told
                yield ServerSentEvent(event="state", data=told)
            if state.status in ENDED:
                return
            await asyncio.sleep(0.3)
            try:
                state = await calls.reconstruction(id, caller)
            except HTTPException:
                return
    finally:
        calls.streams[caller] -= 1


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

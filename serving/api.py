"""The HTTP interface."""

# Annotations are objects here: FastAPI reads them, in a copy of this module's names that Ray Serve makes.

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field, ValidationError
from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException as StarletteHTTPException

from restore_dit import __version__
from restore_dit.config import SamplerName
from restore_dit.data.exchange.limits import TooLarge
from restore_dit.data.storage import locate, read_bytes
from restore_dit.data.worker_errors import user_error_behind
from restore_dit.errors import UserError
from restore_dit.reconstruction.reconstruct import most_windows
from serving import records
from serving.access import NOBODY, RateLimit, Tokens
from serving.answers import MEDIA_TYPES
from serving.config import ServingConfig
from serving.inputs import Inputs, NamedInput
from serving.metrics import CountRequests, metrics
from serving.records import ENDED, Records, State, Wanted
from serving.registry import Registry

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


@app.exception_handler(Exception)
async def _say_nothing(request: Request, error: Exception) -> JSONResponse:
    log.exception("unexpected")
    return JSONResponse({"error": "the service failed; its operator finds why in its log"}, 500)


@serve.deployment(max_ongoing_requests=512)
@serve.ingress(app)
class Api:
    """Answers requests; all work is done elsewhere."""

    def __init__(
        self,
        config: ServingConfig,
        tokens: Tokens | None,
        reconstructor: DeploymentHandle,
        desk: DeploymentHandle,
    ) -> None:
        self._config, self._tokens = config, tokens
        self._reconstructor, self._desk = reconstructor, desk
        self._inputs = Inputs.of(config)
        self._records = Records(locate(config.state))
        self._registry = Registry(config.models, config.default_model)
        self._rate = RateLimit(config.limits.requests_a_minute)
        self._under_way = 0
        self._models: dict[str, Any] = {}

    @app.post(
        "/v1/reconstructions",
        responses={
            200: {"description": "the series", "content": {MEDIA_TYPES["netcdf"]: {}, MEDIA_TYPES["geotiff"]: {}}},
            202: {"model": ReconstructionState, "description": "accepted; ask for it by its id"},
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
                        "example": {"uri": "s3://bucket/series.nc"},
                    },
                },
            }
        },
    )
    async def reconstruct(
        self,
        request: Request,
        credentials: Credentials,
        model: Annotated[str, Query(max_length=200, description="name; empty: the default")] = "",
        steps: Annotated[int | None, Query(ge=1, description="diffusion steps; none: the model's own")] = None,
        sampler: SamplerName | None = None,
        seed: Annotated[int, Query(ge=-(2**63), lt=2**63)] = 0,
        mask_dilation: Annotated[int | None, Query(ge=0, le=32, description="pixels around clouds")] = None,
        dates: Annotated[
            str, Query(max_length=20_000, description="ISO dates to answer, with commas; empty: all")
        ] = "",
        format: Literal["netcdf", "geotiff", "json"] = "netcdf",
        wait: Annotated[bool, Query(description="answer a small request at once")] = True,
    ) -> Response:
        """Fills the gaps of a series. A small one is answered at once (unless `wait=false` or `format=json`), a larger
        one becomes a job."""
        owner = self._caller(credentials)
        wanted = self._wanted(
            model=model, steps=steps, sampler=sampler, seed=seed, mask_dilation=mask_dilation, format=format,
            dates=tuple(part.strip() for part in dates.split(",") if part.strip()),
        )  # fmt: skip
        if self._under_way >= self._config.limits.queue:  # before the upload takes memory
            raise self._busy("the queue is full")
        self._under_way += 1
        try:
            return await self._reconstruct(request, owner, wanted, wait)
        finally:
            self._under_way -= 1

    async def _reconstruct(self, request: Request, owner: str, wanted: Wanted, wait: bool) -> Response:
        kind, content = await self._body(request)
        config = (await self._described(wanted.model)).config
        name = "uri" if kind == "uri" else {"netcdf": "upload.nc", "geotiff": "upload.zip"}[kind]
        try:
            series = await self._inputs.read(kind, name, content)
            lacking = [band for band in config.model.bands if band not in series.optical.bands]
            if lacking:
                raise UserError(f"{name}: the model needs {', '.join(lacking)}, which the series lacks")
            for date in wanted.dates:
                if date not in {str(one) for one in series.optical.dates.astype("datetime64[D]")}:
                    raise UserError(f"dates: the series has no image of {date[:20]}")
        except UserError as error:
            raise problem(413 if isinstance(error, TooLarge) else 422, str(error)) from None
        except ValidationError:
            raise problem(422, "body: give a JSON object with a uri") from None
        windows = most_windows(config, len(series.optical), *series.size)
        if wait and wanted.format != "json" and windows <= self._config.direct_windows:
            return await self._answer_at_once(series, wanted)
        return await self._accept(owner, wanted, kind, name, content)

    async def _answer_at_once(self, series: Any, wanted: Wanted) -> Response:
        for attempt in range(4):
            try:
                content = await self._reconstructor.direct.remote(series, wanted)
                return Response(content, media_type=MEDIA_TYPES[wanted.format])
            except (RayActorError, BackPressureError, RayServeException):
                await asyncio.sleep(0.5 * 2**attempt)
            except Exception as error:
                known = user_error_behind(error)
                if known is None:
                    raise
                raise problem(422, str(known)) from None
        raise problem(503, "for a while there is nobody to do it", self._later())

    async def _accept(self, owner: str, wanted: Wanted, kind: str, name: str, content: bytes) -> Response:
        request = records.Request(
            id=self._records.new_id(),
            owner=owner,
            wanted=wanted,
            kind=kind,
            name=name,
            created=time.time(),
        )
        full = await self._ask_desk("accept", request, content)
        if full:
            raise self._busy("the queue is full" if full == "queue" else "too many reconstructions of this token")
        state = self._shown(request.id, State())
        return JSONResponse(state.model_dump(), 202, {"Location": state.links["self"]})

    @app.get("/v1/reconstructions/{id}", responses=PROBLEMS)
    async def reconstruction(self, id: str, credentials: Credentials) -> ReconstructionState:
        """How far it is, and where its results are."""
        return self._shown(id, await self._state(id, self._caller(credentials)))

    @app.delete("/v1/reconstructions/{id}", responses=PROBLEMS)
    async def cancel(self, id: str, credentials: Credentials) -> ReconstructionState:
        """Ends it, or removes what has ended."""
        state = await self._ask_desk("cancel", id, self._caller(credentials))
        if state is None:
            raise problem(404, "no such reconstruction")
        return self._shown(id, state)

    @app.get(
        "/v1/reconstructions/{id}/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}}, **PROBLEMS},
    )
    async def events(self, id: str, credentials: Credentials) -> StreamingResponse:
        """How far it is, as server-sent events until it has ended."""
        owner = self._caller(credentials)
        first = await self._state(id, owner)

        async def stream() -> AsyncIterator[str]:
            state, said, silent = first, "", 0.0
            while True:
                text = self._shown(id, state).model_dump_json()
                if text != said:
                    said, silent = text, 0.0
                    yield f"event: state\ndata: {text}\n\n"
                elif silent >= 15:
                    silent = 0.0
                    yield ": still there\n\n"  # so that nothing between takes the connection for dead
                if state.status in ENDED:
                    return
                await asyncio.sleep(0.3)
                silent += 0.3
                try:
                    state = await self._state(id, owner)
                except HTTPException:
                    return

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @app.get(
        "/v1/reconstructions/{id}/files/{name}",
        response_class=Response,
        responses={200: {"description": "the file", "content": {"application/octet-stream": {}}}, **PROBLEMS},
    )
    async def file(self, id: str, name: str, credentials: Credentials) -> Response:
        """A result."""
        state = await self._state(id, self._caller(credentials))
        if state.status != "done" or name not in state.files:
            raise problem(404, "no such file")
        place = self._records.result(id).join(name)
        content = await asyncio.to_thread(read_bytes, place)
        return Response(
            content,
            media_type=MEDIA_TYPES.get("." + name.rpartition(".")[2], "application/octet-stream"),
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )

    @app.get("/v1/models", responses=PROBLEMS)
    async def models(self, credentials: Credentials) -> list[ModelDescription]:
        """The models that are served."""
        self._caller(credentials)
        default, found = await asyncio.to_thread(self._registry.default_name), []
        for name in await asyncio.to_thread(lambda: self._registry.names):
            model = await self._described(name)
            diffusion = model.config.diffusion
            found.append(
                ModelDescription(
                    name=name,
                    default=name == default,
                    bands=list(model.config.model.bands),
                    radar=list(model.config.model.radar_channels),
                    frames=model.config.data.frames,
                    steps=diffusion.sampling_steps,
                    sampler=diffusion.sampler,
                    metrics=model.metrics,
                )
            )
        return found

    @app.get("/healthz")
    async def healthz(self) -> dict[str, str]:
        """Whether this process answers."""
        return {"status": "ok", "version": __version__}

    @app.get("/readyz", responses={503: PROBLEMS[503]})
    async def readyz(self) -> dict[str, str]:
        """Whether a reconstruction would be done: the network is loaded."""
        try:
            async with asyncio.timeout(20):
                return {"status": "ready", "model": await self._reconstructor.ready.remote()}
        except (TimeoutError, RayError, RayServeException, UserError):
            raise problem(503, "not ready: the network is not loaded", self._later()) from None

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics(self) -> Response:
        """Counts and times of this process's requests, for Prometheus."""
        waiting = await self._ask_desk("waiting")
        return Response(metrics().text(self._under_way, waiting), media_type="text/plain; version=0.0.4")

    def _caller(self, credentials: HTTPAuthorizationCredentials | None) -> str:
        """The name of the caller, whose call counts."""
        owner: str | None = NOBODY
        if self._tokens is not None:
            header = f"{credentials.scheme} {credentials.credentials}" if credentials else None
            owner = self._tokens.holder(header)
        if owner is None:
            raise problem(401, "no token, or a wrong one: send Authorization: Bearer …", {"WWW-Authenticate": "Bearer"})
        wait = self._rate.seconds_to_wait(owner)
        if wait:
            raise problem(429, "too many requests of this token", {"Retry-After": str(max(1, round(wait)))})
        return owner

    async def _body(self, request: Request) -> tuple[str, bytes]:
        """Kind and content of what was sent, not a byte more than is taken."""
        stated = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if stated not in KINDS:
            raise problem(415, "send application/x-netcdf, application/zip or application/json")
        most = self._config.limits.body_megabytes * 1_000_000
        content = bytearray()
        if int(request.headers.get("content-length") or 0) > most:
            raise problem(413, f"larger than {self._config.limits.body_megabytes} MB")
        async for chunk in request.stream():
            content += chunk
            if len(content) > most:
                raise problem(413, f"larger than {self._config.limits.body_megabytes} MB")
        if not content:
            raise problem(400, "nothing was sent: the body is a NetCDF file, a ZIP archive or a JSON object")
        kind = KINDS[stated] or ("geotiff" if content[:2] == b"PK" else "netcdf")
        return kind, bytes(content)

    def _wanted(self, **given: Any) -> Wanted:
        wanted = Wanted(**given)
        if wanted.steps is not None and wanted.steps > self._config.limits.steps:
            raise problem(422, f"steps: at most {self._config.limits.steps} are taken")
        return wanted

    async def _described(self, name: str) -> Any:
        """The model, for what it needs."""
        try:
            name = name or await asyncio.to_thread(self._registry.default_name)
            if name not in self._models:
                self._models[name] = await asyncio.to_thread(self._registry.load, name)
        except UserError as error:
            raise problem(422, str(error)) from None
        return self._models[name]

    async def _state(self, id_: str, owner: str) -> State:
        state = await self._ask_desk("state", id_, owner)
        if state is None:
            raise problem(404, "no such reconstruction")
        return state

    async def _ask_desk(self, method: str, *arguments: Any) -> Any:
        """An answer of the desk, which may be about to be replaced."""
        for attempt in range(5):
            try:
                return await getattr(self._desk, method).remote(*arguments)
            except (RayActorError, BackPressureError, RayServeException):
                await asyncio.sleep(0.5 * 2**attempt)
        raise problem(503, "for a while there is nobody to do it", self._later())

    def _shown(self, id_: str, state: State) -> ReconstructionState:
        base = f"/v1/reconstructions/{id_}"
        files = {name: f"{base}/files/{name}" for name in state.files}
        links = {"self": base, "events": f"{base}/events"}
        return ReconstructionState(
            id=id_, status=state.status, done=state.done, total=state.total, error=state.error, links=links, files=files
        )

    def _busy(self, why: str) -> HTTPException:
        return problem(429, f"{why}; try again later", self._later())

    def _later(self) -> dict[str, str]:
        return {"Retry-After": str(RETRY_SECONDS)}

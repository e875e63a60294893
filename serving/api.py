"""The HTTP interface."""

# Annotations are objects here: FastAPI reads them, in a copy of this module's names that Ray Serve makes.

import asyncio
import time
from collections.abc import AsyncIterator
from functools import lru_cache
from importlib import resources
from typing import Annotated, Any, Literal

from fastapi import HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials
from pydantic import ValidationError
from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from restore_dit import __version__
from restore_dit.config import SamplerName
from restore_dit.data.exchange.limits import TooLarge
from restore_dit.data.storage import locate, read_bytes
from restore_dit.data.worker_errors import user_error_behind
from restore_dit.errors import UserError
from serving import records
from serving.access import NOBODY, RateLimit, Tokens
from serving.answers import MEDIA_TYPES
from serving.config import ServingConfig
from serving.inputs import Inputs, NamedInput
from serving.interface import (
    IMAGES,
    KINDS,
    PROBLEMS,
    RETRY_SECONDS,
    SERIES,
    VIEWER,
    VIEWER_HEADERS,
    Credentials,
    ModelDescription,
    ReconstructionState,
    app,
    problem,
)
from serving.metrics import metrics
from serving.records import ENDED, Records, State, Wanted
from serving.registry import Registry
from serving.views import Kind, Views


@lru_cache(maxsize=8)
def simulated_sample(seed: int) -> bytes:
    """A simulated series of 64×64 pixels and four months as NetCDF."""
    from restore_dit.config.simulation import SimulationConfig
    from restore_dit.data.exchange import netcdf
    from restore_dit.data.simulation import simulate_tile

    return netcdf.encode(simulate_tile(SimulationConfig(height=64, width=64, days=120), seed, 0))


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
        views: Annotated[bool, Query(description="keep images and series of pixels, too; always a job")] = False,
    ) -> Response:
        """Fills the gaps of a series. A small one is answered at once (unless `wait=false` or `format=json`), a larger
        one becomes a job."""
        owner = self._caller(credentials)
        wanted = self._wanted(
            model=model, steps=steps, sampler=sampler, seed=seed, mask_dilation=mask_dilation, format=format,
            views=views, dates=tuple(part.strip() for part in dates.split(",") if part.strip()),
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
        height, width = series.size
        small = len(series.optical) * height * width <= self._config.direct_pixels
        if small and wait and wanted.format != "json" and not wanted.views:
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

    @app.get("/v1/reconstructions/{id}/views", responses=PROBLEMS)
    async def views(self, id: str, credentials: Credentials) -> dict[str, Any]:
        """What there is to look at: dates, bands, size, composites, the share of gaps at each date."""
        return (await self._views(id, credentials)).description

    @app.get("/v1/reconstructions/{id}/views/{index}", response_class=Response, responses=IMAGES | PROBLEMS)
    async def image(
        self, id: str, index: int, credentials: Credentials, of: Kind = "clear", composite: str = "true_colour"
    ) -> Response:
        """The image of one date as PNG, reconstructed (`clear`) or as it was taken (`cloudy`), or its `gaps`."""
        views = await self._views(id, credentials)
        try:
            content = await asyncio.to_thread(views.image, index, of, composite)
        except KeyError:
            raise problem(404, "no such image") from None
        return Response(content, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    @app.get("/v1/reconstructions/{id}/pixels/{row}/{column}", responses=PROBLEMS)
    async def pixel(self, id: str, row: int, column: int, credentials: Credentials) -> dict[str, Any]:
        """The series of one pixel: reflectance by band and a vegetation index, before and after, and its gaps."""
        views = await self._views(id, credentials)
        try:
            return await asyncio.to_thread(views.pixel, row, column)
        except KeyError:
            raise problem(404, "no such pixel") from None

    @app.get("/v1/samples/simulated.nc", response_class=Response, responses=SERIES | PROBLEMS)
    async def sample(self, credentials: Credentials, seed: Annotated[int, Query(ge=0, le=1_000_000)] = 0) -> Response:
        """A simulated series to try the service with."""
        self._caller(credentials)
        content = await asyncio.to_thread(simulated_sample, seed)
        return Response(content, media_type=MEDIA_TYPES["netcdf"])

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    @app.get("/viewer.css", include_in_schema=False)
    @app.get("/viewer.js", include_in_schema=False)
    async def viewer(self, request: Request) -> Response:
        """The viewer."""
        name = request.url.path.strip("/") or "index.html"
        content = (resources.files("serving") / "viewer" / name).read_bytes()
        return Response(content, media_type=VIEWER[name.rpartition(".")[2]], headers=VIEWER_HEADERS)

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
                self._models[name] = await asyncio.to_thread(self._registry.describe, name)
        except UserError as error:
            raise problem(422, str(error)) from None
        return self._models[name]

    async def _views(self, id_: str, credentials: HTTPAuthorizationCredentials | None) -> Views:
        state = await self._state(id_, self._caller(credentials))
        views = Views(self._records.result(id_).join("views"))
        if state.status != "done" or not await asyncio.to_thread(lambda: views.there):
            raise problem(404, "nothing to look at: it is not done, or was asked for without views=true")
        return views

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

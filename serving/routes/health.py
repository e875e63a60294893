"""Routes about the service itself: models, health, metrics."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, HTTPException, Response
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from restore_dit import __version__
from restore_dit.errors import UserError
from serving.answers import outputs_of
from serving.metrics import metrics
from serving.routes.calls import Caller, CallsHere, later
from serving.routes.interface import PROBLEMS, ModelDescription, problem

READY_SECONDS = 20
"""How long `/readyz` waits for the network to load before it answers 503."""


router = APIRouter(tags=["service"])


@router.get("/v1/models", responses=PROBLEMS)
async def models(calls: CallsHere, caller: Caller) -> list[ModelDescription]:
    """The models that are served."""
    default, found = await asyncio.to_thread(calls.registry.default_name), []
    for name in await asyncio.to_thread(lambda: calls.registry.names):
        try:
            model = await calls.described(name)
        except HTTPException:  # it is still being copied
            continue
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
                outputs=list(outputs_of(model.config.model, model.config.model.bands)),
                metrics=model.metrics,
            )
        )
    return found


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Liveness: this process answers."""
    return {"status": "ok", "version": __version__}


@router.get("/readyz", responses={503: PROBLEMS[503]})
async def readyz(calls: CallsHere) -> dict[str, str]:
    """Readiness: the network is loaded."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            return {"status": "ready", "model": await calls.reconstructor.ready.remote()}
    except (TimeoutError, RayError, RayServeException, UserError):
        raise problem(503, "not ready: the network is not loaded", later()) from None


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def counts(calls: CallsHere) -> Response:
    """Request counts and latencies of this process, for Prometheus."""
    waiting = await calls.ask_job_manager("waiting")
    return Response(metrics().text(calls.under_way, waiting), media_type="text/plain; version=0.0.4")

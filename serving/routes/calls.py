"""What routes have in common: who calls, what the desk says, which model is meant."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from restore_dit.data.storage import locate
from restore_dit.errors import UserError
from restore_dit.reconstruction.model_description import ModelDescription
from serving.access import NOBODY, RateLimit, Tokens
from serving.config import ServingConfig
from serving.inputs import Inputs
from serving.proxy import RETRY_SECONDS
from serving.records import Records, State
from serving.registry import NoSuchModel, Registry
from serving.routes.interface import ReconstructionState, problem

log = logging.getLogger(__name__)

bearer = HTTPBearer(auto_error=False, description="a token of this service")


DESK_SECONDS = 60
"""So long an answer of the desk may take; a cancelled reconstruction takes half of it at most."""

MOST_STREAMS = 32
"""Streams of events of one token, for each ingress."""


class Calls:
    """What one ingress process holds."""

    def __init__(
        self,
        config: ServingConfig,
        tokens: Tokens | None,
        reconstructor: DeploymentHandle,
        desk: DeploymentHandle,
    ) -> None:
        self.config, self.tokens = config, tokens
        self.reconstructor, self.desk = reconstructor, desk
        self.inputs = Inputs.of(config)
        self.records = Records(locate(config.state))
        self.registry = Registry(config.models, config.default_model)
        # Each of several ingresses sees its share of the calls.
        self.most_under_way = math.ceil(config.limits.queue / config.ingresses.most)
        self.rate = RateLimit(math.ceil(config.limits.requests_a_minute / config.ingresses.most))
        self.under_way = 0
        self.of_token: Counter[str] = Counter()
        self.streams: Counter[str] = Counter()
        self._models: dict[str, ModelDescription] = {}

    def caller(self, credentials: HTTPAuthorizationCredentials | None) -> str:
        """The name of the caller, whose call counts."""
        owner: str | None = NOBODY
        if self.tokens is not None:
            header = f"{credentials.scheme} {credentials.credentials}" if credentials else None
            owner = self.tokens.holder(header)
        if owner is None:
            raise problem(401, "no token, or a wrong one: send Authorization: Bearer …", {"WWW-Authenticate": "Bearer"})
        wait = self.rate.seconds_to_wait(owner)
        if wait:
            raise problem(429, "too many requests of this token", {"Retry-After": str(max(1, round(wait)))})
        return owner

    async def described(self, name: str) -> ModelDescription:
        """The model of this name, or the default one: what it needs."""
        try:
            name = name or await asyncio.to_thread(self.registry.default_name)
            if name not in self._models:
                self._models[name] = await asyncio.to_thread(self.registry.describe, name)
        except NoSuchModel as error:
            raise problem(422, str(error)) from None
        except UserError as error:  # for the operator: it names the service's paths
            log.error("%s", error)
            raise nobody_there() from None
        return self._models[name]

    async def reconstruction(self, id_: str, owner: str) -> State:
        """How far a caller's reconstruction is."""
        state = await self.ask_desk("state", id_, owner)
        if state is None:
            raise problem(404, "no such reconstruction")
        return state

    async def ask_desk(self, method: str, *arguments: Any, seconds: float = DESK_SECONDS) -> Any:
        """An answer of the desk, which may be about to be replaced."""
        for attempt in range(5):
            try:
                async with asyncio.timeout(seconds):
                    return await getattr(self.desk, method).remote(*arguments)
            except TimeoutError:
                break
            except (RayActorError, BackPressureError, RayServeException):
                await asyncio.sleep(0.5 * 2**attempt)
        raise nobody_there()


async def _calls(request: Request) -> Calls:
    return request.app.state.calls


CallsHere = Annotated[Calls, Depends(_calls)]
"""What this process holds, for a route."""


async def _caller(
    calls: CallsHere, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> str:
    return calls.caller(credentials)


Caller = Annotated[str, Depends(_caller)]
"""Who calls, for a route that not everybody may call."""


def shown(id_: str, state: State) -> ReconstructionState:
    """A reconstruction as callers see it."""
    base = f"/v1/reconstructions/{id_}"
    files = {name: f"{base}/files/{name}" for name in state.files}
    links = {"self": base, "events": f"{base}/events"}
    return ReconstructionState(
        id=id_, status=state.status, done=state.done, total=state.total, error=state.error, links=links, files=files
    )


def busy(why: str) -> HTTPException:
    """No room for another request."""
    return problem(429, f"{why}; try again later", later())


def nobody_there() -> HTTPException:
    """What does the work is being replaced."""
    return problem(503, "for a while there is nobody to do it", later())


def later() -> dict[str, str]:
    """Says when to ask again."""
    return {"Retry-After": str(RETRY_SECONDS)}

"""What the routes share: authentication, rate limits, access to the job manager, and model look-up."""

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
from serving.access import ANONYMOUS, RateLimit, Tokens
from serving.config import ServingConfig
from serving.proxy import RETRY_SECONDS
from serving.records import Records, State
from serving.registry import NoSuchModel, Registry
from serving.routes.interface import ReconstructionState, problem

log = logging.getLogger(__name__)

bearer = HTTPBearer(auto_error=False, description="a token of this service")


JOB_MANAGER_SECONDS = 60
"""Time limit for a reply from the job manager. Cancelling a job takes up to half of it."""

MAX_STREAMS = 32
"""Maximum number of concurrent event streams per token and ingress."""


class Calls:
    """The state of one ingress process."""

    def __init__(
        self,
        config: ServingConfig,
        tokens: Tokens | None,
        reconstructor: DeploymentHandle,
        job_manager: DeploymentHandle,
    ) -> None:
        self.config, self.tokens = config, tokens
        self.reconstructor, self.job_manager = reconstructor, job_manager
        self.records = Records(locate(config.state))
        self.registry = Registry(config.models, config.default_model)
        # Each ingress sees only its share of the requests.
        self.most_under_way = math.ceil(config.limits.queue / config.ingresses.most)
        self.rate = RateLimit(math.ceil(config.limits.requests_a_minute / config.ingresses.most))
        self.under_way = 0
        self.of_token: Counter[str] = Counter()
        self.streams: Counter[str] = Counter()
        self._models: dict[str, ModelDescription] = {}

    def caller(self, credentials: HTTPAuthorizationCredentials | None) -> str:
        """Authenticates a caller, counts the call and returns the caller's name.

        Raises:
            HTTPException: 401 without a valid token, 429 above the rate limit.
        """
        owner: str | None = ANONYMOUS
        if self.tokens is not None:
            header = f"{credentials.scheme} {credentials.credentials}" if credentials else None
            owner = self.tokens.holder(header)
        if owner is None:
            raise problem(401, "missing or wrong token: send Authorization: Bearer …", {"WWW-Authenticate": "Bearer"})
        wait = self.rate.seconds_to_wait(owner)
        if wait:
            raise problem(429, "too many requests with this token", {"Retry-After": str(max(1, round(wait)))})
        return owner

    async def described(self, name: str) -> ModelDescription:
        """Description of the model with this name, or of the default model if the name is empty.

        Raises:
            HTTPException: 422 if there is no such model, 503 if it cannot be read.
        """
        try:
            name = name or await asyncio.to_thread(self.registry.default_name)
            if name not in self._models:
                self._models[name] = await asyncio.to_thread(self.registry.describe, name)
        except NoSuchModel as error:
            raise problem(422, str(error)) from None
        except UserError as error:  # for the operator: it names the service's paths
            log.error("%s", error)
            raise unavailable() from None
        return self._models[name]

    async def reconstruction(self, id_: str, owner: str) -> State:
        """State of a caller's job.

        Raises:
            HTTPException: 404 if the caller has no such job.
        """
        state = await self.ask_job_manager("state", id_, owner)
        if state is None:
            raise problem(404, "no such reconstruction")
        return state

    async def ask_job_manager(self, method: str, *arguments: Any, seconds: float = JOB_MANAGER_SECONDS) -> Any:
        """Calls a method of the job manager, with retries while the job manager is being replaced.

        Raises:
            HTTPException: 503 if it does not reply in time.
        """
        for attempt in range(5):
            try:
                async with asyncio.timeout(seconds):
                    return await getattr(self.job_manager, method).remote(*arguments)
            except TimeoutError:
                break
            except (RayActorError, BackPressureError, RayServeException):
                await asyncio.sleep(0.5 * 2**attempt)
        raise unavailable()


async def _calls(request: Request) -> Calls:
    return request.app.state.calls


CallsHere = Annotated[Calls, Depends(_calls)]
"""The state of this process, as a route's dependency."""


async def _caller(
    calls: CallsHere, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> str:
    return calls.caller(credentials)


Caller = Annotated[str, Depends(_caller)]
"""The authenticated caller's name, as a route's dependency."""


def shown(id_: str, state: State) -> ReconstructionState:
    """A job as callers see it."""
    base = f"/v1/reconstructions/{id_}"
    files = {name: f"{base}/files/{name}" for name in state.files}
    links = {"self": base, "events": f"{base}/events"}
    return ReconstructionState(
        id=id_, status=state.status, done=state.done, total=state.total, error=state.error, links=links, files=files
    )


def busy(why: str) -> HTTPException:
    """429: a limit is reached."""
    return problem(429, f"{why}; try again later", later())


def unavailable() -> HTTPException:
    """503: the process that would do the work is being replaced."""
    return problem(503, "temporarily unavailable; try again later", later())


def later() -> dict[str, str]:
    """The `Retry-After` header."""
    return {"Retry-After": str(RETRY_SECONDS)}

"""Reconstructions that take longer than a request: accepted, done one after the other, kept, and gone on with after a
restart. There is one desk; its memory is the records in storage."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from restore_dit.data.storage import locate
from restore_dit.data.worker_errors import user_error_behind
from restore_dit.errors import UserError
from serving.config import AT_ONCE, ServingConfig
from serving.records import ENDED, Records, Request, State, replace_state

log = logging.getLogger(__name__)

TRIES = 4
"""Times that a reconstruction is begun whose process ends."""

SWEEP_SECONDS = 300.0

RECOVERY_SECONDS = 20.0
"""A caller waits so long while storage is away."""


@serve.deployment(num_replicas=1, max_ongoing_requests=1000)
class Desk:
    """Keeps the reconstructions."""

    def __init__(self, config: ServingConfig, reconstructor: DeploymentHandle) -> None:
        self._config = config
        self._reconstructor = reconstructor
        self._records = Records(locate(config.state))
        self._states: dict[str, State] = {}
        self._owners: dict[str, str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._arriving: set[str] = set()
        self._cancelled: set[str] = set()
        self._room = asyncio.Semaphore(AT_ONCE * config.reconstructors.most)
        self._recovery = asyncio.create_task(self._recover())
        self._sweeper = asyncio.create_task(self._sweep())

    async def accept(self, request: Request, content: bytes) -> str:
        """Keeps a reconstruction and begins it. Empty once it is kept and outlives this process; else what has no room
        for another one, `token` or `queue`."""
        await self._recovered()
        waiting = [id_ for id_, task in self._tasks.items() if not task.done()]
        waiting += self._arriving
        if len(waiting) >= self._config.limits.queue:
            return "queue"
        if sum(self._owners.get(id_) == request.owner for id_ in waiting) >= self._config.limits.jobs_a_token:
            return "token"
        self._arriving.add(request.id)
        self._owners[request.id] = request.owner
        try:
            await asyncio.to_thread(self._records.add, request, content)
        except BaseException:
            self._forget(request.id)
            raise
        finally:
            self._arriving.discard(request.id)
        self._begin(request.id, request.owner, State())
        return ""

    async def state(self, id_: str, owner: str) -> State | None:
        """How far a caller's reconstruction is; none where the caller has none of this id."""
        await self._recovered()
        if id_ not in self._states:
            try:
                request = await asyncio.to_thread(self._records.request, id_)
                state = await asyncio.to_thread(self._records.state, id_)
            except KeyError:
                return None
            self._states[id_], self._owners[id_] = state, request.owner
        return self._states[id_] if self._owners[id_] == owner else None

    async def cancel(self, id_: str, owner: str) -> State | None:
        """Ends a reconstruction that waits or runs, and removes one that has ended."""
        state = await self.state(id_, owner)
        if state is None:
            return None
        if state.status in ENDED:
            await asyncio.to_thread(self._records.delete, id_)
            self._forget(id_)
            return state
        task = self._tasks.get(id_)
        if task is not None:
            self._cancelled.add(id_)
            task.cancel()
            await asyncio.wait({task}, timeout=30)
        return self._states.get(id_)

    async def waiting(self) -> int:
        """How many wait or run."""
        return sum(not task.done() for task in self._tasks.values())

    async def _recovered(self) -> None:
        """Waits until it is known what was there before.

        Raises:
            UserError: storage cannot be read for a while.
        """
        try:
            await asyncio.wait_for(asyncio.shield(self._recovery), RECOVERY_SECONDS)
        except TimeoutError:
            raise UserError(f"{self._config.state}: cannot be read") from None

    def _begin(self, id_: str, owner: str, state: State) -> None:
        self._states[id_], self._owners[id_] = state, owner
        self._tasks[id_] = asyncio.create_task(self._carry_out(id_))

    async def _carry_out(self, id_: str) -> None:
        try:
            async with self._room:
                await self._keep(id_, status="running")
                await self._run(id_)
        except asyncio.CancelledError:
            if id_ not in self._cancelled:  # the service ends, and will go on with it
                raise
            await self._keep(id_, status="cancelled", ended=time.time())
        except Exception as error:
            known = user_error_behind(error)
            if known is None:
                log.exception("reconstruction %s", id_)
            reason = str(known) if known else "the service failed; ask again, or tell its operator this id"
            await self._keep(id_, status="failed", error=reason, ended=time.time())

    async def _run(self, id_: str) -> None:
        while True:
            answers: Any = self._reconstructor.options(stream=True).job.remote(id_)
            try:
                async for state in answers:
                    if state.status == "done":
                        await self._keep(id_, status="done", files=state.files, ended=time.time())
                        return
                    self._states[id_] = replace_state(self._states[id_], done=state.done, total=state.total)
            except asyncio.CancelledError:
                answers.cancel()
                raise
            except (RayActorError, RayServeException):  # its process has ended
                attempts = self._states[id_].attempts + 1
                if attempts >= TRIES:
                    raise
                await self._keep(id_, attempts=attempts)
                await asyncio.sleep(0.5 * 2**attempts)

    async def _keep(self, id_: str, **changes: object) -> None:
        state = replace_state(self._states[id_], **changes)
        self._states[id_] = state
        await asyncio.to_thread(self._records.set_state, id_, state)

    async def _recover(self) -> None:
        """Goes on with what waited or ran when the service ended, as soon as storage can be read."""
        while True:
            try:
                return await self._begin_again()
            except UserError as error:
                log.error("cannot read what waited: %s", error)
                await asyncio.sleep(5)

    async def _begin_again(self) -> None:
        for id_ in await asyncio.to_thread(self._records.ids):
            try:
                state = await asyncio.to_thread(self._records.state, id_)
                owner = (await asyncio.to_thread(self._records.request, id_)).owner
            except KeyError:
                continue
            if state.status not in ENDED and id_ not in self._tasks:
                attempts = state.attempts + (state.status == "running")
                if attempts >= TRIES:  # it may be what ends the service
                    self._states[id_] = state
                    error = "the service ended several times while it ran"
                    await self._keep(id_, status="failed", error=error, ended=time.time())
                else:
                    self._begin(id_, owner, State(attempts=attempts))

    async def _sweep(self) -> None:
        """Removes what is older than results are kept."""
        while True:
            try:
                for id_ in await asyncio.to_thread(self._records.expired, self._config.keep_hours * 3600):
                    await asyncio.to_thread(self._records.delete, id_)
                    self._forget(id_)
            except Exception:  # storage may be away for a while
                log.exception("expiry")
            await asyncio.sleep(SWEEP_SECONDS)

    def _forget(self, id_: str) -> None:
        for kept in (self._states, self._owners, self._tasks):
            kept.pop(id_, None)
        self._cancelled.discard(id_)

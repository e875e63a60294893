"""Reconstructions that take longer than a request: accepted, done one after the other, kept, and gone on with after a
restart. A service has one desk; its memory is the records in storage.

While one service takes over from another, two desks share the records. A desk says of what it has, every minute, that
it is there; what nobody has said so of for a while is taken up by whoever sees it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from restore_dit.data.storage import locate
from restore_dit.data.worker_errors import user_error_behind
from restore_dit.errors import StorageAway, UserError
from serving.config import AT_ONCE, ServingConfig
from serving.records import ENDED, Records, Request, State, replace_state

log = logging.getLogger(__name__)

TRIES = 4
"""Times that a reconstruction is begun whose process ends."""

SWEEP_SECONDS = 300.0
"""So often it takes up what nobody has, and removes what has expired."""

TOUCH_SECONDS = 60.0
"""So often it says what it has."""

FORSAKEN_SECONDS = 4 * TOUCH_SECONDS
"""What nobody has said to have for so long is nobody's."""

STORAGE_SECONDS = 5.0
"""After so long storage is tried again that was away."""

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
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="records")
        # One place of each reconstructor is left to requests that are answered at once.
        self._room = asyncio.Semaphore((AT_ONCE - 1) * config.reconstructors.most)
        self._recovery = asyncio.create_task(self._recover())
        self._loops = [asyncio.create_task(self._say_what_it_has()), asyncio.create_task(self._sweep())]

    async def accept(self, request: Request, content: bytes) -> str:
        """Keeps a reconstruction and begins it. Empty once it is kept and outlives this process; else what has no room
        for another one, `token` or `queue`."""
        await self._recovered()
        if request.id in self._tasks or request.id in self._arriving:  # it was accepted, but the answer got lost
            return ""
        waiting = [id_ for id_, task in self._tasks.items() if not task.done()]
        waiting += self._arriving
        if len(waiting) >= self._config.limits.queue:
            return "queue"
        if sum(self._owners.get(id_) == request.owner for id_ in waiting) >= self._config.limits.jobs_a_token:
            return "token"
        self._arriving.add(request.id)
        self._owners[request.id] = request.owner
        adding = asyncio.ensure_future(asyncio.to_thread(self._records.add, request, content))
        try:
            await asyncio.shield(adding)
        except BaseException:
            self._forget(request.id)
            await asyncio.wait({adding})  # nobody waits for the answer any more, but the thread writes on
            with suppress(UserError):  # a disk that is full, say
                await self._in_order(self._records.delete, request.id)
            raise
        finally:
            self._arriving.discard(request.id)
        self._begin(request.id, request.owner, State())
        return ""

    async def state(self, id_: str, owner: str) -> State | None:
        """How far a caller's reconstruction is; none where the caller has none of this id."""
        await self._recovered()
        if id_ not in self._tasks:  # another desk may have it
            try:
                if id_ not in self._owners:
                    self._owners[id_] = (await asyncio.to_thread(self._records.request, id_)).owner
                self._states[id_] = await asyncio.to_thread(self._records.state, id_)
            except KeyError:
                self._forget(id_)
                return None
        return self._states[id_] if self._owners[id_] == owner else None

    async def cancel(self, id_: str, owner: str) -> State | None:
        """Ends a reconstruction that waits or runs, and removes one that has ended."""
        state = await self.state(id_, owner)
        if state is None:
            return None
        if state.status in ENDED:
            await self._in_order(self._records.delete, id_)
            self._forget(id_)
            return state
        task = self._tasks.get(id_)
        if task is None:
            raise UserError(f"reconstruction {id_}: another desk has it")
        self._cancelled.add(id_)
        task.cancel()
        await asyncio.wait({task}, timeout=30)
        return self._states.get(id_)

    async def waiting(self) -> int:
        """How many wait or run."""
        return sum(not task.done() for task in self._tasks.values())

    async def close(self) -> None:
        """Leaves what waits or runs to whoever comes next: that a service is stopped does not count as an attempt."""
        for loop in self._loops:
            loop.cancel()
        running = {id_: task for id_, task in self._tasks.items() if not task.done()}
        for id_, task in running.items():
            task.cancel()
            self._tasks.pop(id_)
        if running:
            await asyncio.wait(running.values(), timeout=5)
        for id_ in running:
            if self._states[id_].status in ENDED:  # but it may not have been kept yet
                await self._keep(id_)
            else:
                await self._keep(id_, status="queued", done=0, touched=0.0)

    async def __del__(self) -> None:
        """Ray Serve waits for this when it ends the process in order."""
        await self.close()

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
            except Exception as error:
                behind = user_error_behind(error)
                if not isinstance(behind, StorageAway):
                    raise
                log.error("reconstruction %s waits: %s", id_, behind)
                await asyncio.sleep(STORAGE_SECONDS)

    async def _keep(self, id_: str, **changes: object) -> None:
        self._states[id_] = replace_state(self._states[id_], **{"touched": time.time(), **changes})
        while id_ in self._states:
            try:
                await self._in_order(self._records.set_state, id_, self._states[id_])
                return
            except StorageAway as error:
                log.error("reconstruction %s cannot be kept: %s", id_, error)
                await asyncio.sleep(STORAGE_SECONDS)

    async def _in_order(self, change: Callable[..., None], *arguments: Any) -> None:
        """Makes changes to records one after the other, even where nobody waits for one any more."""
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._writer, change, *arguments))

    async def _recover(self) -> None:
        """Goes on with what waited or ran when the service ended, as soon as storage can be read."""
        while True:
            try:
                return await self._take_up(forsaken_only=False)
            except Exception:
                log.exception("cannot read what waited")
                await asyncio.sleep(STORAGE_SECONDS)

    async def _take_up(self, *, forsaken_only: bool) -> None:
        """Begins what waits or ran and is not begun here. A desk that starts takes all: should another still have some
        of it, the same is done twice."""
        for id_ in await asyncio.to_thread(self._records.ids):
            if id_ in self._tasks or id_ in self._arriving:
                continue
            try:
                state = await asyncio.to_thread(self._records.state, id_)
                if state.status in ENDED or (forsaken_only and time.time() - state.touched < FORSAKEN_SECONDS):
                    continue
                owner = (await asyncio.to_thread(self._records.request, id_)).owner
            except KeyError:
                continue
            except StorageAway:
                raise
            except UserError as error:  # a record that cannot be read is no reason to do without the others
                log.error("%s", error)
                continue
            if id_ not in self._tasks:
                attempts = state.attempts + (state.status == "running")
                if attempts >= TRIES:  # it may be what ends the service
                    self._states[id_] = state
                    reason = "the service ended several times while it ran"
                    await self._keep(id_, status="failed", error=reason, ended=time.time())
                else:
                    self._begin(id_, owner, State(attempts=attempts))

    async def _say_what_it_has(self) -> None:
        while True:
            await asyncio.sleep(TOUCH_SECONDS)
            for id_, task in list(self._tasks.items()):
                if not task.done():
                    await self._keep(id_)

    async def _sweep(self) -> None:
        """Takes up what nobody has, removes what is older than results are kept."""
        await asyncio.shield(self._recovery)
        while True:
            try:
                await self._take_up(forsaken_only=True)
                for id_ in await asyncio.to_thread(self._records.expired, self._config.keep_hours * 3600):
                    await self._in_order(self._records.delete, id_)
                    self._forget(id_)
            except Exception:  # storage may be away for a while
                log.exception("records")
            await asyncio.sleep(SWEEP_SECONDS)

    def _forget(self, id_: str) -> None:
        for kept in (self._states, self._owners, self._tasks):
            kept.pop(id_, None)
        self._cancelled.discard(id_)

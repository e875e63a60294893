"""The job manager: accepts reconstructions that outlast a request, runs them, records their state, and resumes them
after a restart. A service has one job manager, whose only persistent memory is the records in storage.

While one service replaces another, two job managers share the records. Each writes a heartbeat for its jobs every
minute, and adopts any job without a recent heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from typing import Any

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from restore_dit.data.storage import locate
from restore_dit.errors import StorageUnavailable, UserError, user_error_behind
from serving.config import AT_ONCE, ServingConfig
from serving.records import ENDED, Records, Request, State, replace_state

log = logging.getLogger(__name__)

TRIES = 4
"""Attempts at a reconstruction whose process keeps dying."""

SWEEP_SECONDS = 300.0
"""Interval at which orphaned jobs are adopted and expired ones deleted."""

TOUCH_SECONDS = 60.0
"""Interval of the heartbeat of a queued or running job."""

ORPHANED_SECONDS = 4 * TOUCH_SECONDS
"""A job without a heartbeat for this long is orphaned."""

STORAGE_SECONDS = 5.0
"""Delay before storage that was unreachable is tried again."""

RECOVERY_SECONDS = 20.0
"""How long a caller waits for the records to be read after a start."""


@serve.deployment(num_replicas=1, max_ongoing_requests=1000)
class JobManager:
    """Manages the jobs of a service."""

    def __init__(self, config: ServingConfig, reconstructor: DeploymentHandle) -> None:
        self._config = config
        self._reconstructor = reconstructor
        self._records = Records(locate(config.state))
        self._states: dict[str, State] = {}
        self._owners: dict[str, str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._arriving: dict[str, Request] = {}
        self._keyed = asyncio.Lock()
        self._cancelled: set[str] = set()
        # One thread, so that an older state of a job never overwrites a newer one.
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="records")
        # One slot of each reconstructor stays free for synchronous requests.
        self._room = asyncio.Semaphore((AT_ONCE - 1) * config.reconstructors.most)
        self._recovery = asyncio.create_task(self._recover())
        self._loops = [asyncio.create_task(self._send_heartbeats()), asyncio.create_task(self._sweep())]

    async def accept(self, request: Request) -> str:
        """Records a job, whose input is there, and starts it. From now on the input is the job manager's to delete.

        Returns:
            `""` once the job is recorded and so survives this process; otherwise why it is refused: a limit, `"token"`
            or `"queue"`, or `"key"`: its idempotency key stands for another request.
        """
        await self._recovered()
        # Of several requests with the same key, the first is recorded before the next is compared with it.
        async with self._keyed if request.fingerprint else nullcontext():
            return await self._accept(request)

    async def _accept(self, request: Request) -> str:
        known = self._arriving.get(request.id)
        if known is None and (request.fingerprint or request.id in self._tasks):
            known = await asyncio.to_thread(self._records.accepted, request.id)
        if known is not None:  # sent again, or accepted before, but the reply got lost
            refusal = "" if known.fingerprint == request.fingerprint else "key"
        else:
            refusal = self._limit_reached(request.owner)
        if known is not None or refusal:
            if known is None or known.input != request.input:
                await self._in_order(self._records.discard_input, request)
            return refusal
        # Counted from here on: while the record is written, further requests must not pass the same limit.
        self._arriving[request.id] = request
        self._owners[request.id] = request.owner
        adding = asyncio.ensure_future(asyncio.to_thread(self._records.add, request))
        try:
            await asyncio.shield(adding)
        except BaseException:
            self._forget(request.id)
            await asyncio.wait({adding})  # the caller has gone, but the thread still writes
            with suppress(UserError):  # a full disk, for example
                await self._in_order(self._records.delete, request.id)
            raise
        finally:
            self._arriving.pop(request.id, None)
        self._begin(request.id, request.owner, State())
        return ""

    def _limit_reached(self, owner: str) -> str:
        waiting = [id_ for id_, task in self._tasks.items() if not task.done()]
        waiting += self._arriving
        if len(waiting) >= self._config.limits.queue:
            return "queue"
        of_owner = sum(self._owners.get(id_) == owner for id_ in waiting)
        return "token" if of_owner >= self._config.limits.jobs_a_token else ""

    async def state(self, id_: str, owner: str) -> State | None:
        """State of a caller's job; None if the caller has no job with this id."""
        await self._recovered()
        # Read from the records, not from memory: the job manager that runs the job writes its progress there.
        if id_ not in self._tasks:  # another job manager may run it
            try:
                if id_ not in self._owners:
                    self._owners[id_] = (await asyncio.to_thread(self._records.request, id_)).owner
                self._states[id_] = await asyncio.to_thread(self._records.state, id_)
            except KeyError:
                self._forget(id_)
                return None
        return self._states[id_] if self._owners[id_] == owner else None

    async def cancel(self, id_: str, owner: str) -> State | None:
        """Cancels a queued or running job, deletes one that has ended, and returns its state; None if there is none.

        Raises:
            UserError: another job manager runs the job.
        """
        state = await self.state(id_, owner)
        if state is None:
            return None
        if state.status in ENDED:
            await self._in_order(self._records.delete, id_)
            self._forget(id_)
            return state
        task = self._tasks.get(id_)
        if task is None:
            raise UserError(f"reconstruction {id_}: another process of the service runs it")
        # Noted before the task is cancelled, which tells a caller's wish from the end of the service.
        self._cancelled.add(id_)
        task.cancel()
        await asyncio.wait({task}, timeout=30)
        return self._states.get(id_)

    async def waiting(self) -> int:
        """Number of queued and running jobs."""
        return sum(not task.done() for task in self._tasks.values())

    async def close(self) -> None:
        """Requeues unfinished jobs for the next job manager. A stopped service does not count as a failed attempt."""
        for loop in self._loops:
            loop.cancel()
        running = {id_: task for id_, task in self._tasks.items() if not task.done()}
        for id_, task in running.items():
            task.cancel()
            self._tasks.pop(id_)
        if running:
            await asyncio.wait(running.values(), timeout=5)
        for id_ in running:
            if self._states[id_].status in ENDED:  # its last state may not have been written yet
                await self._keep(id_)
            else:
                await self._keep(id_, status="queued", done=0, touched=0.0)

    async def __del__(self) -> None:
        """Ray Serve awaits this when it shuts the process down in an orderly way."""
        await self.close()

    async def _recovered(self) -> None:
        """Waits until the records of earlier jobs have been read.

        Raises:
            UserError: storage could not be read in time.
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
            if id_ not in self._cancelled:  # the service is stopping and will resume the job
                raise
            await self._keep(id_, status="cancelled", ended=time.time())
        except Exception as error:
            known = user_error_behind(error)
            if known is None:
                log.exception("reconstruction %s", id_)
            reason = str(known) if known else "internal error; try again, or report this id to the service's operator"
            await self._keep(id_, status="failed", error=reason, ended=time.time())

    async def _run(self, id_: str) -> None:
        while True:
            answers: Any = self._reconstructor.options(stream=True).job.remote(id_)
            # Progress is kept in memory only: written every quarter of a second, it would be
            # most of the requests to storage.
            try:
                async for state in answers:
                    if state.status == "done":
                        await self._keep(id_, status="done", files=state.files, ended=time.time())
                        return
                    self._states[id_] = replace_state(self._states[id_], done=state.done, total=state.total)
            except asyncio.CancelledError:
                answers.cancel()
                raise
            except (RayActorError, RayServeException):  # its process has died
                attempts = self._states[id_].attempts + 1
                if attempts >= TRIES:
                    raise
                await self._keep(id_, attempts=attempts)
                await asyncio.sleep(0.5 * 2**attempts)
            except Exception as error:
                behind = user_error_behind(error)
                if not isinstance(behind, StorageUnavailable):
                    raise
                log.error("reconstruction %s waits for storage: %s", id_, behind)
                await asyncio.sleep(STORAGE_SECONDS)

    async def _keep(self, id_: str, **changes: object) -> None:
        self._states[id_] = replace_state(self._states[id_], **{"touched": time.time(), **changes})
        while id_ in self._states:
            try:
                await self._in_order(self._records.set_state, id_, self._states[id_])
                return
            except StorageUnavailable as error:
                log.error("reconstruction %s: its state cannot be written: %s", id_, error)
                await asyncio.sleep(STORAGE_SECONDS)

    async def _in_order(self, change: Callable[..., None], *arguments: Any) -> None:
        """Applies a change to the records. Changes run one at a time and complete even if the caller is cancelled."""
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._writer, change, *arguments))

    async def _recover(self) -> None:
        """Resumes the jobs of the previous service as soon as storage can be read."""
        while True:
            try:
                return await self._adopt(orphans_only=False)
            except Exception:
                log.exception("cannot read the recorded jobs")
                await asyncio.sleep(STORAGE_SECONDS)

    async def _adopt(self, *, orphans_only: bool) -> None:
        """Starts unfinished jobs that this job manager does not run. A new one adopts all of them; a job that another
        still runs is then done twice."""
        for id_ in await asyncio.to_thread(self._records.ids):
            if id_ in self._tasks or id_ in self._arriving:
                continue
            try:
                state = await asyncio.to_thread(self._records.state, id_)
                if state.status in ENDED or (orphans_only and time.time() - state.touched < ORPHANED_SECONDS):
                    continue
                owner = (await asyncio.to_thread(self._records.request, id_)).owner
            except KeyError:
                continue
            except StorageUnavailable:
                raise
            except UserError as error:  # one unreadable record must not block the others
                log.error("%s", error)
                continue
            if id_ not in self._tasks:
                # A queued job did not take part in the crash, so only a running one counts an attempt.
                attempts = state.attempts + (state.status == "running")
                if attempts >= TRIES:  # the job may be what crashes the service
                    self._states[id_] = state
                    reason = "the service died several times while running it"
                    await self._keep(id_, status="failed", error=reason, ended=time.time())
                else:
                    self._begin(id_, owner, State(attempts=attempts))

    async def _send_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(TOUCH_SECONDS)
            for id_, task in list(self._tasks.items()):
                if not task.done():
                    await self._keep(id_)

    async def _sweep(self) -> None:
        """Adopts orphaned jobs and deletes expired ones, at regular intervals."""
        limits = self._config.limits
        # Twice as long as a series that is answered synchronously may take, because it waits for others first.
        keep_seconds = 3600 * self._config.keep_hours
        answer_seconds = 2.0 * (limits.parse_seconds + limits.work_seconds)
        await asyncio.shield(self._recovery)
        while True:
            try:
                await self._adopt(orphans_only=True)
                for id_ in await asyncio.to_thread(self._records.expired, keep_seconds, answer_seconds):
                    await self._in_order(self._records.delete, id_)
                    self._forget(id_)
            except Exception:  # storage may be unreachable for a while
                log.exception("cannot sweep the records")
            await asyncio.sleep(SWEEP_SECONDS)

    def _forget(self, id_: str) -> None:
        for kept in (self._states, self._owners, self._tasks):
            kept.pop(id_, None)
        self._cancelled.discard(id_)

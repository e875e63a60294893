"""The reconstructor deployment: cuts series into windows, sends them to the samplers and merges the predictions."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from restore_dit.clouds.detectors import Detector, detector_of
from restore_dit.data.storage import locate
from restore_dit.errors import UserError
from restore_dit.reconstruction.dates import at_dates, dates_wanted
from restore_dit.reconstruction.gap_free import fill_gaps, provenance
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.sampling import PreparedWindow, Sample, SamplingOptions
from restore_dit.series import TileSeries
from serving.answers import Answer, require_answerable, require_room
from serving.config import AT_ONCE, ServingConfig
from serving.failures import hiding_operator_errors
from serving.inputs import Inputs
from serving.records import Records, Request, RequestOptions, State, replace_state
from serving.registry import Registry

AHEAD = 16
"""Windows of one series that are in flight to the samplers."""

TRIES = 5
"""Attempts to have a window sampled when sampler processes die."""


class Cancelled(Exception):
    """The caller no longer waits for this reconstruction."""


class ServedModel(NamedTuple):
    """A model with the name under which it is served."""

    name: str
    model: Model


@serve.deployment(max_ongoing_requests=512)
class Reconstructor:
    """Reconstructs series. It holds no network: the samplers do."""

    def __init__(self, config: ServingConfig, sampler: DeploymentHandle) -> None:
        self._config, self._sampler = config, sampler
        self._records = Records(locate(config.state))
        self._inputs = Inputs.of(config)
        self._registry = Registry(config.models, config.default_model)
        self._model = lru_cache(maxsize=4)(self._registry.load)
        self._detector: Detector | None = None
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def ready(self) -> str:
        """Waits until a sampler has loaded the default model and returns its name."""
        return await self._sampler.ready.remote()

    async def answer(self, request: Request, *, directly: bool) -> bytes | None:
        """Checks a request whose input is recorded. If it may be answered directly and its series is small, returns the
        response body; otherwise None: it has to become a job.

        Raises:
            UserError: the input is invalid, exceeds a limit, or lacks what the model or an output needs.
        """
        series, model = await self._read(request)
        height, width = series.size
        pixels = len(series.optical) * height * width * (1 + request.wanted.samples)
        if not directly or pixels > self._config.direct_pixels:
            return None
        cancelled = threading.Event()
        try:
            filled = await self._filled(series, model, request.wanted, lambda done, total: None, cancelled)
            return await asyncio.to_thread(filled.as_one, request.wanted.format)
        finally:
            cancelled.set()

    async def job(self, id_: str) -> AsyncIterator[State]:
        """Runs a recorded job and writes the results to its folder. Yields the progress every 0.25 s; the last state
        has the status `done` and the names of the files.

        Raises:
            UserError: the input is invalid, or the reconstruction exceeds the time limit.
        """
        latest = State(status="running")
        cancelled = threading.Event()

        def on_progress(done: int, total: int) -> None:
            nonlocal latest
            latest = State(status="running", done=done, total=total)

        async def work() -> tuple[str, ...]:
            with hiding_operator_errors():
                request = await asyncio.to_thread(self._records.request, id_)
            series, model = await self._read(request)
            answer = await self._filled(series, model, request.wanted, on_progress, cancelled)
            place, wanted = self._records.result(id_), request.wanted
            return await asyncio.to_thread(answer.write, place, wanted.format, views=wanted.views)

        task = asyncio.create_task(work())
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=0.25)
                yield latest
            yield replace_state(latest, files=task.result(), status="done")
        finally:
            cancelled.set()
            task.cancel()

    async def _read(self, request: Request) -> tuple[TileSeries, ServedModel]:
        """The series of a request, and the model for it."""
        with hiding_operator_errors():
            content = await asyncio.to_thread(self._records.input, request)
        series = await self._inputs.read(request.kind, request.name, content)
        with hiding_operator_errors():
            name = request.wanted.model or await asyncio.to_thread(self._registry.default_name)
            model = await asyncio.to_thread(self._model, name)
        dates = require_answerable(series, request.name, model.config.model, request.wanted)
        if dates is not None:
            together = np.union1d(series.optical.dates.astype("datetime64[D]"), dates)
            bands = len(series.optical.bands)
            self._config.limits.series.require(request.name, len(together), *series.size, bands)
        if request.wanted.samples:
            frames = len(series.optical) if dates is None else len(dates)
            require_room(request.name, request.wanted.samples, frames, series, self._config.limits.series.values)
        return series, ServedModel(name, model)

    async def _filled(
        self,
        series: TileSeries,
        served: ServedModel,
        wanted: RequestOptions,
        on_progress: Callable[[int, int], None],
        cancelled: threading.Event,
    ) -> Answer:
        name, model = served

        def fill() -> Answer:
            options = SamplingOptions(
                steps=wanted.steps,
                seed=wanted.seed,
                precision=self._config.precision,
                mask_dilation=wanted.mask_dilation,
                sampler=wanted.sampler,
                replace_suspect=wanted.replace_suspect,
                samples=wanted.samples,
            )

            def report(done: int, total: int) -> None:
                if cancelled.is_set():
                    raise Cancelled
                on_progress(done, total)

            known = series if series.clouds is not None else self._with_clouds(series)
            sample = self._remote_sampling(name, options, cancelled)
            dates = dates_wanted(known.optical.dates, wanted.dates, wanted.every)
            indices = ("ndvi",) if {"ndvi", "uncertainty"} <= set(wanted.outputs) else ()
            filled = fill_gaps(model, known, options, report, sample, dates, indices=indices)
            made = provenance(model, name, options, filled)
            if known.remarks:
                made |= {"REMARKS": " ".join(known.remarks)}
            return Answer(at_dates(known, dates), filled.series, filled.gap_mask, made, wanted.outputs, filled.indices)

        seconds = self._config.limits.work_seconds
        try:
            async with self._at_once, asyncio.timeout(seconds):
                return await asyncio.to_thread(fill)
        except TimeoutError:
            raise UserError(f"took longer than {seconds} s: send a smaller area, fewer dates or fewer steps") from None

    def _with_clouds(self, series: TileSeries) -> TileSeries:
        if self._detector is None:
            with hiding_operator_errors():
                self._detector = detector_of(self._config.clouds)
        self._detector.require(series.optical.bands, series.size, series.georeference)
        return replace(series, clouds=next(iter(self._detector.detect([series]))))

    def _remote_sampling(self, name: str, options: SamplingOptions, cancelled: threading.Event) -> Sample:
        """A function that sends windows to the samplers, up to `AHEAD` at a time, and yields predictions in order."""
        handle = self._sampler.options(multiplexed_model_id=name)

        def ask(window: PreparedWindow) -> DeploymentResponse[NDArray[np.float32]]:
            return handle.sample.remote(name, window, options)  # type: ignore[return-value]

        def prediction(
            window: PreparedWindow, response: DeploymentResponse[NDArray[np.float32]]
        ) -> NDArray[np.float32]:
            for attempt in range(TRIES - 1):
                try:
                    return response.result()
                except (RayActorError, RayServeException):
                    time.sleep(0.2 * 2**attempt)
                    response = ask(window)
            return response.result()

        def sample(windows: Iterable[PreparedWindow]) -> Iterator[NDArray[np.float32]]:
            waiting: deque[tuple[PreparedWindow, DeploymentResponse[NDArray[np.float32]]]] = deque()
            try:
                for window in windows:
                    if cancelled.is_set():
                        raise Cancelled
                    waiting.append((window, ask(window)))
                    if len(waiting) >= AHEAD:
                        yield prediction(*waiting.popleft())
                while waiting:
                    yield prediction(*waiting.popleft())
            finally:
                for _, response in waiting:
                    response.cancel()

        return sample

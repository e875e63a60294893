"""The sampler deployment: holds the network and samples windows of different requests in batches."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray import serve

from restore_dit.errors import UserError
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.sampling import PreparedWindow, SamplingOptions, sample_windows
from serving.config import ServingConfig
from serving.failures import hiding_operator_errors
from serving.registry import Registry

MODELS_AT_HAND = 2
"""Models that a process keeps in memory. Ray Serve routes a request to a process that already has its model."""


@dataclass(frozen=True)
class _Item:
    model: Model
    window: PreparedWindow
    options: SamplingOptions


@serve.deployment(max_ongoing_requests=256)
class Sampler:
    """Samples windows with the network."""

    def __init__(self, config: ServingConfig) -> None:
        self._config = config
        self._registry = Registry(config.models, config.default_model)
        # One thread owns the network: two forward passes at once would need twice the memory and gain nothing.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="network")
        batched: Any = self._sample_batch  # `serve.batch` adds these setters
        batched.set_max_batch_size(config.batch_size)
        batched.set_batch_wait_timeout_s(config.batch_wait)
        self._largest: dict[Any, int] = {}
        logging.getLogger("ray.serve").setLevel(logging.WARNING)

    async def ready(self) -> str:
        """Loads the default model and returns its name."""
        name = self._registry.default_name()
        await self._model(name)
        return name

    async def sample(self, name: str, window: PreparedWindow, options: SamplingOptions) -> NDArray[np.float32]:
        """Prediction of the named model for one window, [t, C, h, w], on the scale of the published method.

        Raises:
            UserError: a single window exceeds the GPU memory.
            ServiceFailure: the model cannot be loaded.
        """
        model = await self._model(name)
        found = await self._sample_batch(_Item(model, window, options))
        # Raised here, since an exception in the batched method would fail every request of its batch.
        if isinstance(found, Exception):
            raise found
        return found

    @serve.multiplexed(max_num_models_per_replica=MODELS_AT_HAND)
    async def _model(self, name: str) -> Model:
        return await asyncio.to_thread(self._load, name)

    def _load(self, name: str) -> Model:
        with hiding_operator_errors():
            model = self._registry.load(name).on_device(self._config.use_gpu)
        if self._config.compile:
            model.denoiser.compile()
        return model

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.02)
    async def _sample_batch(self, items: list[_Item]) -> list[NDArray[np.float32] | Exception]:
        """Predictions in the order of the items. Items with the same model, options and shape share a forward pass."""
        groups: dict[Any, list[int]] = defaultdict(list)
        for index, item in enumerate(items):
            # The seed only makes the noise, which each window brings along, so it does not divide a batch.
            groups[(id(item.model), replace(item.options, seed=0), item.window.shape)].append(index)
        answers: list[NDArray[np.float32] | Exception] = [RuntimeError("never sampled")] * len(items)
        loop = asyncio.get_running_loop()
        for key, members in groups.items():
            first = items[members[0]]
            windows = [items[index].window for index in members]
            try:
                found: Sequence[Any] = await loop.run_in_executor(
                    self._thread, self._sample_as_many_as_fit, key, first.model, windows, first.options
                )
            except Exception as error:  # noqa: BLE001 every request of the batch gets an answer
                found = [error] * len(members)
            for index, one in zip(members, found, strict=True):
                answers[index] = one
        return answers

    def _sample_as_many_as_fit(
        self, key: Any, model: Model, windows: list[PreparedWindow], options: SamplingOptions
    ) -> list[NDArray[np.float32]]:
        """Halves the batch whenever the GPU runs out of memory, and remembers the size that fits for this key."""
        most = self._largest.get(key, len(windows))
        found: list[NDArray[np.float32]] = []
        while len(found) < len(windows):
            group = windows[len(found) : len(found) + most]
            try:
                found += sample_windows(model, group, options, keep_padding=self._config.compile)
            except torch.OutOfMemoryError:
                if len(group) == 1:
                    raise UserError("not enough GPU memory for a single window of this model") from None
                # Blocks of the failed attempt are cached by PyTorch and may be too fragmented for the smaller one.
                torch.cuda.empty_cache()
                most = self._largest[key] = len(group) // 2
        return found

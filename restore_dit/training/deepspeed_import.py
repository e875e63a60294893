"""Imports DeepSpeed without two unused dependencies that it would load.

Importing its Muon optimiser makes `torch.compile` load its compiler, and the autotuner loads MLflow's client: together
6 of the 11 seconds of CPU time that building an engine took (AMD, 2026-11-29).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import ModuleType
from typing import Any

import torch


@cache  # the temporary changes below must happen only once, before another thread may use what they change
def import_deepspeed() -> ModuleType:
    """The module `deepspeed`."""
    with _absent("mlflow"), _not_compiling():
        import deepspeed

        with suppress(ImportError):  # other releases
            import deepspeed.runtime.zero.muon.muon_optimizer
    return deepspeed


@contextmanager
def _absent(name: str) -> Iterator[None]:
    """Context in which importing this module fails, unless it is already imported."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def _not_compiling() -> Iterator[None]:
    """Context in which `torch.compile`, used as a decorator, returns functions unchanged."""
    compiling = torch.compile
    torch.compile = _unchanged  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = compiling


def _unchanged(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
    return function if function is not None else lambda function: function

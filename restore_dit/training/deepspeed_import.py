"""DeepSpeed without two things that it loads with it and that nobody here uses.

Importing Muon, an optimiser, makes `torch.compile` load its compiler, and the autotuner loads MLflow's client: together
6 of the 11 seconds of processor that building an engine took (AMD, 2026-11-29).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import ModuleType
from typing import Any

import torch


@cache  # so that what is changed for the import is changed once, before any thread can be at work with it
def import_deepspeed() -> ModuleType:
    """The module `deepspeed`."""
    with _absent("mlflow"), _not_compiling():
        import deepspeed

        with suppress(ImportError):  # other releases
            import deepspeed.runtime.zero.muon.muon_optimizer
    return deepspeed


@contextmanager
def _absent(name: str) -> Iterator[None]:
    """Within it an import of this module fails, unless it has been imported before."""
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
    """Within it `torch.compile`, as a decorator, leaves functions as they are."""
    compiling = torch.compile
    torch.compile = _leave  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = compiling


def _leave(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
    return function if function is not None else lambda function: function

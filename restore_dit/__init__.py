"""RESTORE-DiT: gap-free Sentinel-2 series from what is visible, the radar series and the dates.

`restore_dit.fill(dataset)` fills the gaps of an `xarray.Dataset`: see `restore_dit.filling.fill`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from restore_dit.threads import settle

__version__ = "0.1.0"

settle()  # before anything loads PyTorch


def __getattr__(name: str) -> Any:
    """`fill`, once it is asked for: it loads PyTorch."""
    if name == "fill":
        return import_module("restore_dit.filling").fill
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

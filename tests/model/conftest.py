"""Golden denoisers: the published network's random weights, its inputs and what it computed from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from restore_dit.model.conditioning import Conditioning


@dataclass(frozen=True)
class Golden:
    """One `sdt_*.npz`: published-style `weights`, and inputs and results in `arrays`."""

    config: dict[str, int]
    weights: dict[str, Tensor]
    arrays: dict[str, Tensor]

    @property
    def conditioning(self) -> Conditioning:
        return Conditioning(optical_dates=self.arrays.get("date"), radar=self.arrays.get("cond"))

    def saved(self, path: Path, *, prefix: str = "", wrapped: bool = True) -> Path:
        """The weights as the published code saves them."""
        weights = {prefix + name: value for name, value in self.weights.items()}
        torch.save({"model_state_dict": weights, "epoch": 3} if wrapped else weights, path)
        return path


@pytest.fixture(scope="session")
def golden(reference: Path) -> Callable[[str], Golden]:
    """Reads `sdt_<name>.npz`."""

    def read(name: str) -> Golden:
        with np.load(reference / f"sdt_{name}.npz") as stored:
            arrays = {key: torch.from_numpy(stored[key]) for key in stored.files if key != "config"}
            config = json.loads(str(stored["config"]))
        weights = {key.removeprefix("weight/"): value for key, value in arrays.items() if key.startswith("weight/")}
        return Golden(config, weights, {key: value for key, value in arrays.items() if not key.startswith("weight/")})

    return read

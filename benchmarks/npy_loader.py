"""Baseline of the data path: PyTorch's `DataLoader` over PASTIS-R's .npy files, doing the same work per training sample
as the loader of the published method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

FRAMES = 15
RADAR_FRAMES = 35
CEILING = 8000


class NpySeries(Dataset[dict[str, Tensor]]):
    """Training samples from a folder in PASTIS-R's layout. For each, whole files are read, 15 consecutive clear frames
    and cloud masks of other dates are selected, radar frames of the nearest dates are paired, and all values are
    converted to the network's scale.
    """

    def __init__(self, folder: Path, length: int) -> None:
        self.folder = folder
        self.length = length
        features = json.loads((folder / "metadata.geojson").read_text())["features"]
        self.patches = [feature["properties"] for feature in features]
        self.bad_frames = json.loads((folder / "bad_frames.json").read_text())
        norm = json.loads((folder / "NORM_S1A_patch.json").read_text())
        folds = norm.values()
        self.mean, self.std = (
            np.mean([fold[key] for fold in folds], axis=0, dtype=np.float32) for key in ("mean", "std")
        )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        patch = self.patches[index % len(self.patches)]
        number, random = patch["ID_PATCH"], np.random.default_rng(index)
        optical = np.load(self.folder / "DATA_S2" / f"S2_{number}.npy")
        radar = np.load(self.folder / "DATA_S1A" / f"S1A_{number}.npy")
        masks = np.load(self.folder / "REAL_MASKS" / f"{number}.npy")
        days, radar_days = _days(patch["dates-S2"]), _days(patch["dates-S1A"])
        clear = np.setdiff1d(np.arange(len(optical)), self.bad_frames[str(number)])
        first = int(random.integers(max(len(clear) - FRAMES, 0) + 1))
        chosen = clear[first : first + FRAMES]
        others = random.permutation(np.setdiff1d(np.arange(len(masks)), chosen))
        gaps = masks[np.resize(others, len(chosen))] > 0
        subset = np.linspace(0, len(radar_days) - 1, RADAR_FRAMES).astype(int)
        paired = subset[np.abs(days[chosen][:, None] - radar_days[subset]).argmin(axis=1)]
        values = np.clip(optical[chosen].astype(np.float32), 0, CEILING) / CEILING * 2 - 1
        scaled = (radar[paired].astype(np.float32) - self.mean[:, None, None]) / self.std[:, None, None]
        sample: dict[str, Any] = {
            "optical": values,
            "gap_mask": gaps.astype(np.float32),
            "radar": np.clip(scaled, -2, 2) / 2,
            "dates": np.round(days[chosen] / 10).astype(np.float32) * 10,
        }
        return {name: torch.from_numpy(_padded(array)) for name, array in sample.items()}


def _days(dates: dict[str, int]) -> np.ndarray:
    texts = [f"{str(date)[:4]}-{str(date)[4:6]}-{str(date)[6:]}" for date in dates.values()]
    return (np.array(texts, "datetime64[D]") - np.datetime64("2018-09-01")).astype(int)


def _padded(values: np.ndarray) -> np.ndarray:
    padding = np.zeros((FRAMES - len(values), *values.shape[1:]), values.dtype)
    return np.concatenate([values, padding]) if len(padding) else values


def batches(folder: Path, examples: int, batch_size: int, workers: int) -> DataLoader[dict[str, Tensor]]:
    """A loader of batches with this many worker processes, 0 for the current process."""
    return DataLoader(NpySeries(folder, examples), batch_size, num_workers=workers)

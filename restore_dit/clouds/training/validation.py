"""Validation on held-out frames, separately for each store."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from restore_dit.clouds import scores
from restore_dit.clouds.network.inputs import crop, pad
from restore_dit.clouds.scores import Counts, confusion_counts, no_counts
from restore_dit.clouds.training.labelled_tiles import TilesInMemory
from restore_dit.clouds.training.split import LabelledStore
from restore_dit.config.cloud_training import CloudTrainingConfig
from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.data.randomness import generator
from restore_dit.series import CLOUD_NO_DATA, REFLECTANCE_SCALE

_PIXELS_AT_ONCE = 2**17


@dataclass(frozen=True)
class ScoredFrames:
    """Frames of one tile with predictions: arrays as in `LabelledTile`, masks uint8 [n, H, W]."""

    tile_id: str
    bands: tuple[str, ...]
    dates: NDArray[np.datetime64]
    inputs: NDArray[np.int16]
    labels: NDArray[np.uint8]
    predictions: NDArray[np.uint8]


def criterion(counts: Sequence[Counts]) -> float:
    """The criterion by which weights are selected: the mean of the F1 of cloud and of shadow over the stores. Undefined
    scores are left out; NaN if all are."""
    f1s = [score for one in counts for score in (scores.cloud_f1(one), scores.shadow_f1(one)) if not math.isnan(score)]
    return sum(f1s) / len(f1s) if f1s else math.nan


def score_line(counts: Counts) -> str:
    """The main scores, on one line."""
    flagged = scores.clear_flagged(counts)
    main = {"cloud": scores.cloud_f1(counts), "shadow": scores.shadow_f1(counts), "hidden": scores.hidden_f1(counts)}
    parts = [f"{name} F1 {value:.3f}" for name, value in main.items() if not math.isnan(value)]
    if not math.isnan(flagged):
        parts.append(f"{100 * flagged:.1f} % of clear land flagged")
    return ", ".join(parts) or "no labelled pixel"


class HeldOutFrames:
    """The held-out frames of the stores, at most `validation.frames` of each."""

    def __init__(self, stores: Sequence[LabelledStore], tiles: TilesInMemory, config: CloudTrainingConfig) -> None:
        self.stores = stores
        self.tiles = tiles
        self.network = config.network
        self._frames = [_some(store.validation, number, config) for number, store in enumerate(stores)]

    def __bool__(self) -> bool:
        return any(self._frames)

    def counts(self, network: nn.Module) -> dict[str, Counts]:
        """Confusion counts by name of the store, for stores with held-out frames."""
        found = {}
        for number, store in enumerate(self.stores):
            if self._frames[number]:
                total = no_counts()
                for scored in self.frames(network, number):
                    total += confusion_counts(scored.labels, scored.predictions)
                found[store.name] = total
        return found

    def frames(self, network: nn.Module, store: int) -> Iterator[ScoredFrames]:
        """The held-out frames of one store with the network's predictions, tile by tile."""
        for tile_id, frames in self._frames[store].items():
            tile = self.tiles(store, tile_id)
            inputs, labels = tile.inputs[frames], tile.labels[frames]
            predictions = predict(network, inputs, self.network)
            predictions[~inputs.any(axis=1)] = CLOUD_NO_DATA
            yield ScoredFrames(tile_id, tile.bands, tile.dates[frames], inputs, labels, predictions)


@torch.inference_mode()
def predict(network: nn.Module, inputs: NDArray[np.int16], config: CloudNetworkConfig) -> NDArray[np.uint8]:
    """Predicted classes uint8 [n, H, W] of frames, whose inputs are as in `LabelledTile`."""
    network.eval()
    device = next(network.parameters()).device
    size = inputs.shape[-2:]
    at_once = max(_PIXELS_AT_ONCE // (size[0] * size[1]), 1)
    masks = np.empty((len(inputs), *size), np.uint8)
    for start in range(0, len(inputs), at_once):
        stored = torch.from_numpy(inputs[start : start + at_once]).to(device)
        frames = pad(stored.float() / REFLECTANCE_SCALE, config).contiguous(memory_format=torch.channels_last)
        logits = network(frames)
        masks[start : start + at_once] = crop(logits, size).argmax(dim=1).to(torch.uint8).cpu().numpy()
    return masks


def _some(frames: dict[str, NDArray[np.intp]], store: int, config: CloudTrainingConfig) -> dict[str, NDArray[np.intp]]:
    """A random (seeded) selection of at most `validation.frames` frames, by tile."""
    everything = [(tile_id, frame) for tile_id, chosen in frames.items() for frame in chosen]
    if len(everything) <= config.validation.frames:
        return {tile_id: chosen for tile_id, chosen in frames.items() if len(chosen)}
    order = generator(config.seed, "cloud validation frames", store).permutation(len(everything))
    kept: dict[str, list[int]] = {}
    for place in sorted(order[: config.validation.frames]):
        tile_id, frame = everything[place]
        kept.setdefault(tile_id, []).append(int(frame))
    return {tile_id: np.array(chosen) for tile_id, chosen in kept.items()}

"""Training examples, each determined by the seed, the step and its index in the batch alone, and their augmentation:
symmetries, brightness, noise, and dropping bands or the clear reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore_dit.clouds.network.inputs import resample
from restore_dit.clouds.training.labelled_tiles import KINDS, TilesInMemory, nearest
from restore_dit.clouds.training.split import LabelledStore
from restore_dit.config.cloud_training import CloudAugmentationConfig, CloudTrainingConfig
from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.data.examples.cutting import transform
from restore_dit.data.randomness import generator
from restore_dit.series import CLOUD_NO_DATA, REFLECTANCE_SCALE


@dataclass(frozen=True)
class Example:
    """The network's `inputs`, float32 [channels, crop, crop], and `labels`, uint8 [crop, crop]."""

    inputs: NDArray[np.float32]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class LabelledBatch:
    """A batch of examples: `inputs` float32 [N, channels, crop, crop], `labels` int64 [N, crop, crop]."""

    inputs: Tensor
    labels: Tensor


class ExampleMaker:
    """Draws and crops examples."""

    def __init__(self, stores: Sequence[LabelledStore], tiles: TilesInMemory, config: CloudTrainingConfig) -> None:
        self.stores = stores
        self.tiles = tiles
        self.config = config
        self.shares = store_shares(stores, config)
        self._parts = [tiles.parts(number, share) for number, share in enumerate(self.shares.tolist())]
        weights = config.frames
        self._kind_weights = np.array([weights.mixed, weights.clear, weights.covered, 0.0])

    def batch(self, step: int) -> LabelledBatch:
        """The examples of one step."""
        examples = [self.example(step, index) for index in range(self.config.batch_size)]
        labels = np.stack([example.labels for example in examples]).astype(np.int64)
        return LabelledBatch(torch.from_numpy(np.stack([one.inputs for one in examples])), torch.from_numpy(labels))

    def example(self, step: int, index: int) -> Example:
        """Example `index` of a step."""
        random = generator(self.config.seed, "cloud example", step, index)
        store = int(random.choice(len(self.stores), p=self.shares))
        part = self._parts[store][step // self.config.part_steps % len(self._parts[store])]
        counts = np.array([len(self.stores[store].training[tile_id]) for tile_id in part], float)
        tile_id = part[random.choice(len(part), p=counts / counts.sum())]
        tile = self.tiles(store, tile_id)
        frame = self._frame(tile.kinds, self.stores[store].training[tile_id], random)
        inputs, labels = self._cut(tile.inputs[frame], tile.labels[frame], random)
        augmentation, network = self.config.augmentation, self.config.network
        if augmentation.flips:
            inputs, labels = mirrored(inputs, labels, random)
        inputs = disturbed(inputs, network, augmentation, random)
        inputs[dropped_channels(network, tile.bands, augmentation, random)] = 0
        return Example(np.ascontiguousarray(inputs), np.ascontiguousarray(labels))

    def _frame(self, kinds: NDArray[np.intp], frames: NDArray[np.intp], random: np.random.Generator) -> int:
        """A random frame of a tile: its kind is drawn first, then a frame of this kind."""
        present = np.bincount(kinds[frames], minlength=len(KINDS)) > 0
        weights = self._kind_weights * present
        if not weights.any():  # no frame is labelled, or only kinds with weight 0
            return int(random.choice(frames))
        kind = random.choice(len(KINDS), p=weights / weights.sum())
        return int(random.choice(frames[kinds[frames] == kind]))

    def _cut(
        self, inputs: NDArray[np.int16], labels: NDArray[np.uint8], random: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """A random square crop of a frame, zoomed at random. A smaller frame is padded by reflection; the padding has
        no labels."""
        crop, zoom = self.config.crop, self.config.augmentation.zoom
        zoomed = random.random() < 0.5
        factor = float(np.exp(random.uniform(-1, 1) * np.log(zoom))) if zoomed else 1.0
        height, width = (min(round(crop / factor), size) for size in labels.shape)
        row, column = (
            int(random.integers(size - side + 1)) for size, side in zip(labels.shape, (height, width), strict=True)
        )
        window = (slice(row, row + height), slice(column, column + width))
        size = (min(round(height * factor), crop), min(round(width * factor), crop))
        values = torch.from_numpy(inputs[:, *window].astype(np.float32) / np.float32(REFLECTANCE_SCALE))
        cropped, cropped_labels = resample(values[None], size)[0].numpy(), nearest(labels[window], size)
        padding = [(0, crop - length) for length in size]
        if any(after for _, after in padding):
            cropped = np.pad(cropped, [(0, 0), *padding], mode="symmetric")
            cropped_labels = np.pad(cropped_labels, padding, constant_values=CLOUD_NO_DATA)
        return cropped, cropped_labels


def store_shares(stores: Sequence[LabelledStore], config: CloudTrainingConfig) -> NDArray[np.float64]:
    """The share of examples from each store; the shares add up to 1."""
    if config.shares:
        shares = np.array(config.shares, float)
    else:
        shares = np.array([store.training_pixels for store in stores], float) ** (1 - config.store_balance)
    return shares / shares.sum()


def class_shares(maker: ExampleMaker, steps: int) -> NDArray[np.float64]:
    """Relative frequency [4] of each class in the labels of the first steps."""
    counts = np.zeros(4, np.int64)
    for step in range(steps):
        labels = maker.batch(step).labels.numpy()
        counts += np.bincount(labels[labels != CLOUD_NO_DATA], minlength=4)
    return counts / max(counts.sum(), 1)


Values = NDArray[np.float32]
Labels = NDArray[np.uint8]

_MIN_REFLECTANCE = np.float32(1e-4)
"""Minimum reflectance after augmentation, because 0 stands for no data."""

_MIN_BANDS = 3
"""Minimum number of bands that an example keeps at random."""


def mirrored(values: Values, labels: Labels, random: np.random.Generator) -> tuple[Values, Labels]:
    """Values [..., S, S] and labels [S, S] under a random one of the eight symmetries of a square."""
    which = int(random.integers(8))
    return transform(values, which), transform(labels, which)


def disturbed(
    values: Values, network: CloudNetworkConfig, config: CloudAugmentationConfig, random: np.random.Generator
) -> Values:
    """A frame and its reference, reflectance [channels, S, S], with simulated changes of illumination and atmospheric
    correction. Only `brightness` also affects the reference. Pixels without data (0) stay 0, and no others become 0."""
    known = values != 0
    bands = len(network.bands)
    gain = np.ones(len(values), np.float32)
    gain[:bands] = np.exp(
        config.band_gain * random.standard_normal(bands) + config.frame_gain * random.standard_normal()
    )
    result = values * (gain * np.exp(config.brightness * random.standard_normal()))[:, None, None].astype(np.float32)
    result[:bands] += np.float32(config.offset * random.standard_normal())
    if config.noise:
        result[:bands] += np.float32(config.noise) * random.standard_normal(result[:bands].shape, np.float32)
    return np.where(known, np.maximum(result, _MIN_REFLECTANCE), np.float32(0))


def dropped_channels(
    network: CloudNetworkConfig, known: tuple[str, ...], config: CloudAugmentationConfig, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Mask [channels] of the network's channels to drop from an example whose tile has the bands `known`.

    Half of the examples with dropped bands keep one of `config.band_subsets`, as far as the tile has it; the others
    keep at least three random bands. If the tile has no band of the subset, none is dropped.
    """
    kept = {*known}
    if network.missing_bands and random.random() < config.band_dropout:
        if config.band_subsets and random.random() < 0.5:
            subset = {*config.band_subsets[random.integers(len(config.band_subsets))]} & kept
        else:
            count = int(random.integers(min(_MIN_BANDS, len(known)), len(known) + 1))
            subset = {*random.permutation(list(known))[:count]}
        kept = subset or kept
    lacking = np.array([band not in kept for band in network.bands])
    if not network.reference:
        return lacking
    return np.concatenate([lacking, lacking | (random.random() < config.reference_dropout)])

"""Gap masks for examples: real cloud masks of the tile, moved to frames that are clear."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restore_dit.config import GapConfig
from restore_dit.data.examples.symmetry import transform


def draw_dates(
    number: int, excluded: NDArray[np.integer], count: int, random: np.random.Generator
) -> NDArray[np.integer]:
    """`count` of a tile's `number` dates, without replacement from those that are not `excluded`; where those are too
    few, every date is drawn once more before any comes a second time."""
    drawn = [random.permutation(np.setdiff1d(np.arange(number), excluded))]
    while sum(map(len, drawn)) < count:
        drawn.append(random.permutation(number))
    return np.concatenate(drawn)[:count]


def training_gaps(
    masks: NDArray[np.bool_],
    side: tuple[int, int],
    corner: tuple[int, int],
    config: GapConfig,
    random: np.random.Generator,
) -> NDArray[np.bool_]:
    """Gaps [n, h, w] of a training example cut at `corner` with `side`, from masks [n, H, W] of drawn dates. With
    `mask_flips` each mask is mirrored, transposed and cut at a place of its own, so that few masks give many gaps."""
    count = len(masks)
    gaps = np.empty((count, *side), bool)
    for index, mask in enumerate(masks):
        row, column = corner
        if config.mask_flips:
            mask = transform(mask, int(random.integers(8)) if mask.shape[0] == mask.shape[1] else 0)
            row = int(random.integers(mask.shape[0] - side[0] + 1))
            column = int(random.integers(mask.shape[1] - side[1] + 1))
        gaps[index] = mask[row : row + side[0], column : column + side[1]]
    if random.random() < config.frames_only:
        gaps[:] = False
        gaps[random.integers(count)] = True
    gaps[random.random(count) < config.frame_dropout] = True
    return gaps

"""Gap masks for examples: real cloud masks of the tile, moved to frames that are clear; and what such masks miss.

Masks miss pieces of thin cloud and shadow, which a training example shows as if they were observed ground. A gap mask
hides clear ground, so merely removing a piece from it would show the ground as it is. The piece therefore becomes a
veil: the input shows cloud or shadow there, while the target stays clear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.ndimage import zoom

from restore_dit.config import GapConfig, MaskErrorConfig
from restore_dit.data.examples.cutting import Scalar, transform
from restore_dit.data.examples.dilation import dilated
from restore_dit.series import SHADOW, THIN_CLOUD


def draw_dates(
    number: int, excluded: NDArray[np.integer], count: int, random: np.random.Generator
) -> NDArray[np.integer]:
    """`count` of a tile's `number` dates, without replacement from those that are not `excluded`; if there are too few,
    every date is drawn once more before any is drawn a second time."""
    drawn = [random.permutation(np.setdiff1d(np.arange(number), excluded))]
    while sum(map(len, drawn)) < count:
        drawn.append(random.permutation(number))
    return np.concatenate(drawn)[:count]


@dataclass(frozen=True)
class Placement:
    """Where a tile's mask is placed on a training example: transposed or mirrored, then cropped at (row, column)."""

    symmetry: int
    row: int
    column: int


def draw_placements(
    count: int,
    size: tuple[int, int],
    side: tuple[int, int],
    corner: tuple[int, int],
    config: GapConfig,
    random: np.random.Generator,
) -> list[Placement]:
    """Placements of `count` masks of `size` on an example of `side` cropped at `corner`: at the same corner or, with
    `mask_flips`, each mirrored, transposed and cropped at random, so that few masks yield many gaps."""
    if not config.mask_flips:
        return [Placement(0, *corner)] * count
    return [
        Placement(
            int(random.integers(8)) if size[0] == size[1] else 0,
            int(random.integers(size[0] - side[0] + 1)),
            int(random.integers(size[1] - side[1] + 1)),
        )
        for _ in range(count)
    ]


def placed(masks: NDArray[Scalar], placements: Sequence[Placement], side: tuple[int, int]) -> NDArray[Scalar]:
    """Masks [n, H, W] of any kind as placed on the example, [n, h, w]."""
    laid = np.empty((len(masks), *side), masks.dtype)
    for index, (mask, place) in enumerate(zip(masks, placements, strict=True)):
        rows, columns = slice(place.row, place.row + side[0]), slice(place.column, place.column + side[1])
        laid[index] = transform(mask, place.symmetry)[rows, columns]
    return laid


def vary(gaps: NDArray[np.bool_], config: GapConfig, random: np.random.Generator) -> None:
    """Changes the gaps [n, h, w] of a training example in place with the probabilities in `config`: to one whole
    missing frame, to one or two runs of missing frames, or to partial gaps only; finally any frame may be missing in
    addition."""
    kind = random.random()
    if kind < config.frames_only:
        gaps[:] = False
        gaps[random.integers(len(gaps))] = True
    elif kind < config.frames_only + config.runs:
        gaps[:] = False
        for _ in range(random.integers(1, 3)):
            length = min(int(random.integers(2, 7)), max(len(gaps) - 2, 1))
            first = int(random.integers(len(gaps) - length + 1))
            gaps[first : first + length] = True
    elif kind < config.frames_only + config.runs + config.partial:
        for gap in gaps:
            if not _MIN_PARTIAL <= gap.mean() <= _MAX_PARTIAL:
                gap[:] = _cloud_field(gap.shape, random.uniform(_MIN_PARTIAL, _MAX_PARTIAL), random)
    gaps[random.random(len(gaps)) < config.frame_dropout] = True


_MIN_PARTIAL, _MAX_PARTIAL = 0.1, 0.95
_CLOUD_PIXELS = 4


def _cloud_field(shape: tuple[int, ...], share: float, random: np.random.Generator) -> NDArray[np.bool_]:
    """Clouds a few pixels in size that cover this share of an image [h, w]."""
    height, width = (side // _CLOUD_PIXELS + 2 for side in shape)
    coarse = zoom(random.standard_normal((height, width)), _CLOUD_PIXELS, order=1)[: shape[0], : shape[1]]
    return np.asarray(coarse > np.quantile(coarse, 1 - share))


STRONGEST = 127
"""Integer value of the veil for a share of 1."""

OPACITY = (0.08, 0.4)
"""Range of opacities of a missed piece of thin cloud."""

CLOUD_REFLECTANCE = 0.5
"""Reflectance of the cloud that a veil mixes in, the same in all bands; haze missed by Sen2Cor brightens blue by 0.04
to 0.2."""

DARKENING = (0.15, 0.6)
"""Range of the share of light that a missed piece of shadow loses."""

RIM = 2
"""Width in pixels of the border of a piece that has half its strength: clouds and shadows have soft edges."""

_WITHIN_FRAMES = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])[:, None, None]
"""Connectivity of pieces [n, H, W]: by edges within a frame, never between frames."""


def missed_pieces(masks: NDArray[np.uint8], config: MaskErrorConfig, random: np.random.Generator) -> NDArray[np.int8]:
    """The veil int8 [n, H, W] of the missed pieces of masks [n, H, W]: the opacity of thin cloud, or minus the share of
    light lost in shadow, times `STRONGEST`; 0 elsewhere. Each connected piece is missed independently."""
    veil = np.zeros(masks.shape, np.int8)
    for kind, share, (weakest, strongest), sign in (
        (THIN_CLOUD, config.missed_thin_cloud, OPACITY, 1),
        (SHADOW, config.missed_shadow, DARKENING, -1),
    ):
        if not share:
            continue
        pieces, count = ndimage.label(masks == kind, _WITHIN_FRAMES)
        strength = np.where(random.random(count) < share, random.uniform(weakest, strongest, count), 0)
        of_piece = np.concatenate([[0], sign * np.rint(strength * STRONGEST)]).astype(np.int8)
        veil += of_piece.take(pieces)
    rim = dilated(veil == 0, RIM)
    veil[rim] //= 2
    return veil

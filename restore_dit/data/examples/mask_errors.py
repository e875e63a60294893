"""What masks miss: pieces of thin cloud and shadow that a training example shows as if they were observed ground.

A gap mask hides clear ground, so taking a piece out of it would show the ground as it is. The piece becomes a veil
instead: whoever looks there sees cloud or shadow, while the target stays clear.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from restore_dit.config import MaskErrorConfig
from restore_dit.data.examples.dilation import dilated
from restore_dit.series import SHADOW, THIN_CLOUD

STRONGEST = 127
"""The veil's integer for a share of 1."""

OPACITY = (0.08, 0.4)
"""Of a missed piece of thin cloud."""

CLOUD_REFLECTANCE = 0.5
"""Of the cloud that a veil mixes in, white in all bands: haze that Sen2Cor missed brightens blue by 0.04 to 0.2."""

DARKENING = (0.15, 0.6)
"""Share of its light that a missed piece of shadow loses."""

RIM = 2
"""Pixels at a piece's border that have half its strength: clouds and shadows do not end at a line."""

_IN_A_FRAME = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])[:, None, None]
"""Pieces [n, H, W] are connected by edges within a frame, never from one frame to the next."""


def missed_pieces(masks: NDArray[np.uint8], config: MaskErrorConfig, random: np.random.Generator) -> NDArray[np.int8]:
    """The veil int8 [n, H, W] of pieces of masks [n, H, W] that are missed: of thin cloud its opacity, of shadow minus
    the share of light that it takes, both times `STRONGEST`; 0 elsewhere. Each connected piece is decided by itself."""
    veil = np.zeros(masks.shape, np.int8)
    for kind, share, (weakest, strongest), sign in (
        (THIN_CLOUD, config.missed_thin_cloud, OPACITY, 1),
        (SHADOW, config.missed_shadow, DARKENING, -1),
    ):
        if not share:
            continue
        pieces, count = ndimage.label(masks == kind, _IN_A_FRAME)
        strength = np.where(random.random(count) < share, random.uniform(weakest, strongest, count), 0)
        of_piece = np.concatenate([[0], sign * np.rint(strength * STRONGEST)]).astype(np.int8)
        veil += of_piece.take(pieces)
    rim = dilated(veil == 0, RIM)
    veil[rim] //= 2
    return veil

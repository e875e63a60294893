"""Simulates what masks miss: pieces of thin cloud and shadow that a training example shows as if they were observed
ground.

A gap mask hides clear ground, so merely removing a piece from it would show the ground as it is. The piece therefore
becomes a veil: the input shows cloud or shadow there, while the target stays clear.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from restore_dit.config import MaskErrorConfig
from restore_dit.data.examples.dilation import dilated
from restore_dit.series import SHADOW, THIN_CLOUD

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

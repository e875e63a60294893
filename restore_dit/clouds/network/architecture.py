"""The network architecture: the U-Net of segmentation_models_pytorch for which cloud weights have been published."""

from __future__ import annotations

import difflib

from torch import nn

from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.errors import UserError

CLASSES = ("clear", "thick cloud", "thin cloud", "shadow")
"""Names of the network's outputs in order, which are the values 0 to 3 of a mask."""


def build_network(config: CloudNetworkConfig) -> nn.Module:
    """A U-Net with random weights that maps float32 [N, `config.channels`, H, W] to logits [N, 4, H, W]. H and W must
    be multiples of 32. Nothing is downloaded.

    Raises:
        UserError: there is no such encoder, or it does not support this number of channels.
    """
    import segmentation_models_pytorch as smp  # takes seconds, since it imports torchvision

    known = smp.encoders.get_encoder_names()
    if config.encoder not in known:
        near = difflib.get_close_matches(config.encoder, known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known encoders: {', '.join(known)}"
        raise UserError(f"network.encoder '{config.encoder}': segmentation_models_pytorch has no such encoder; {hint}")
    return smp.Unet(config.encoder, encoder_weights=None, in_channels=config.channels, classes=len(CLASSES))

"""The cloud network, a U-Net of segmentation_models_pytorch: builds it, loads weights into it, checks that they fit,
and identifies them by a checksum."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.errors import UserError

_COUNTER = "num_batches_tracked"
"""A buffer of batch normalisation that old files lack and that only training uses."""

_NUMBERS = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64)


class Misfit(Exception):
    """The weights do not fit the network: `what` is wrong, and what to `do` about it."""

    def __init__(self, what: str, do: str) -> None:
        super().__init__(what, do)
        self.what, self.do = what, do


class FittedNetwork(NamedTuple):
    """A network with the given weights, in evaluation mode, and their `checksum` (128-bit BLAKE2b in hex)."""

    network: nn.Module
    checksum: str


def fitted_network(config: CloudNetworkConfig, weights: Mapping[str, Tensor]) -> FittedNetwork:
    """The configured network with these weights, which must be exactly its tensors and all finite.

    Raises:
        Misfit: the weights are those of another network, or are not finite numbers.
        UserError: there is no such network.
    """
    network = build_network(config)
    expected = network.state_dict()
    _require_names(config, expected, weights)
    _require_shapes(config, expected, weights)
    for name, tensor in weights.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.dtype not in _NUMBERS:
            raise Misfit(f"{name} is not a plain numeric tensor ({tensor.dtype})", "save the network's state_dict()")
        if not torch.isfinite(tensor).all():
            raise Misfit(f"{name} contains values that are not finite", "use the weights of an earlier step")
    network.load_state_dict(expected | dict(weights))
    return FittedNetwork(network.eval().requires_grad_(False), checksum(network.state_dict()))


def checksum(weights: Mapping[str, Tensor]) -> str:
    """128-bit BLAKE2b (hex) of the tensors' names, types, shapes and values, independent of the file format."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def input_channels(config: CloudNetworkConfig, weights: Mapping[str, Tensor]) -> int | None:
    """Number of input channels of these weights; None if they are not those of the configured encoder."""
    first = _first_convolution(build_network(config).state_dict())
    return weights[first].shape[1] if first in weights and weights[first].dim() == 4 else None


def _require_names(config: CloudNetworkConfig, expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    lacking = [name for name in expected if name not in weights and not name.endswith(_COUNTER)]
    foreign = [name for name in weights if name not in expected]
    found = [
        f"{words} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        for words, names in (("lack", lacking), ("also have", foreign))
        if names
    ]
    if found:
        raise Misfit(
            f"not the weights of a U-Net with encoder {config.encoder}: they {' and '.join(found)}",
            "name their encoder as network.encoder",
        )


def _require_shapes(config: CloudNetworkConfig, expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    first, last = _first_convolution(expected), "segmentation_head.0.weight"
    for name in [first, last, *expected]:
        if name not in weights or weights[name].shape == expected[name].shape:
            continue
        ours, theirs = expected[name].shape, weights[name].shape
        if name == first and theirs[:1] + theirs[2:] == ours[:1] + ours[2:]:
            raise _other_inputs(config, theirs[1])
        if name == last and theirs[1:] == ours[1:]:
            raise Misfit(
                f"it has {theirs[0]} classes, but {len(CLASSES)} are required ({', '.join(CLASSES)})",
                "use weights trained for these classes",
            )
        raise Misfit(
            f"not the weights of a U-Net with encoder {config.encoder}: {name} has shape {list(theirs)} instead of "
            f"{list(ours)}",
            "name their encoder as network.encoder",
        )


def _other_inputs(config: CloudNetworkConfig, count: int) -> Misfit:
    names = ", ".join(config.bands)
    if not config.reference:
        what = f"it has {count} input bands, but network.bands names {len(config.bands)} ({names})"
    else:
        what = (
            f"it has {count} inputs, but network.bands names {len(config.bands)} ({names}), which count twice because "
            "of the reference"
        )
    return Misfit(what, "name its bands, in its order, as network.bands")


def _first_convolution(weights: Mapping[str, Tensor]) -> str:
    return next(name for name, tensor in weights.items() if tensor.dim() == 4)


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

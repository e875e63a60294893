"""Loads published cloud weights: files with a state dict, without executing any code in them."""

from __future__ import annotations

import io
import pickle
import re
import warnings
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from restore_dit.clouds.network.weights import FittedNetwork, Misfit, fitted_network, input_channels
from restore_dit.config.clouds import PUBLISHED_BANDS, CloudNetworkConfig
from restore_dit.data.storage import Place, locate, read_bytes
from restore_dit.errors import UserError
from restore_dit.model.published import UNREADABLE
from restore_dit.series import S2_ALL_BANDS

_NESTED = ("state_dict", "model_state_dict")
_PICKLE, _ZIP = b"\x80", b"PK"
_SUFFIXES = (".pth, .pt or .ckpt of torch.save", ".safetensors")


def load_published(place: Place, config: CloudNetworkConfig) -> FittedNetwork:
    """Loads a network from a published file.

    For a file with 13 inputs, the bands must be given: among the published ones, one uses the Level-1C bands, another
    AOT and WVP instead of B08 and B10, and the files do not say which.

    Raises:
        UserError: no such file, not a state dict, or the weights of another network.
    """
    origin = locate(place).uri
    weights = read_published_weights(place)
    if config.bands == PUBLISHED_BANDS and input_channels(config, weights) == len(S2_ALL_BANDS):
        raise UserError(
            f"{origin}: has 13 input bands but does not say which; name them, for example for Level-1C: "
            f"network.bands=[{','.join(S2_ALL_BANDS)}]"
        )
    try:
        return fitted_network(config, weights)
    except Misfit as misfit:
        raise UserError(f"{origin}: {misfit.what}; {misfit.do}") from None


def read_published_weights(place: Place) -> dict[str, Tensor]:
    """The tensors of a published file by name. The state dict may be nested below `state_dict`; a prefix that all names
    share (`model.`, `module.`) is removed.

    Raises:
        UserError: no such file, not a state dict, or a file with Python objects, which are never instantiated.
    """
    origin, content = locate(place).uri, read_bytes(place)
    tree = _safetensors(origin, content) if origin.endswith(".safetensors") else _torch(origin, content)
    for key in _NESTED:
        if isinstance(tree, dict) and isinstance(tree.get(key), dict):
            tree = tree[key]
    if not isinstance(tree, dict) or not tree or not all(isinstance(value, Tensor) for value in tree.values()):
        raise UserError(f"{origin}: not a state dict (tensors by name, possibly below state_dict); save one")
    names = [str(name).split(".") for name in tree]
    shared = 0
    while all(len(name) > shared + 1 and name[shared] == names[0][shared] for name in names):
        shared += 1
    return {".".join(name[shared:]): tensor for name, tensor in zip(names, tree.values(), strict=True)}


def _safetensors(origin: str, content: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, *UNREADABLE) as error:
        raise UserError(f"{origin}: not a safetensors file, or damaged ({_reason(error)}); copy it again") from None


def _torch(origin: str, content: bytes) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # errors about the file are reported below
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if content.startswith((_PICKLE, _ZIP)):
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            raise UserError(
                f"{origin}: contains Python objects{f' ({found[1]})' if found else ''}, and loading them could run "
                "code: refused; save only the network's state_dict()"
            ) from None
    except UNREADABLE as error:
        if "TorchScript" in str(error):
            raise UserError(f"{origin}: a TorchScript program: refused; save the network's state_dict()") from None
        if content.startswith((_PICKLE, _ZIP)):
            raise UserError(f"{origin}: not a PyTorch checkpoint, or damaged ({_reason(error)})") from None
    raise UserError(f"{origin}: not a checkpoint; weights must be {' or '.join(_SUFFIXES)}")


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__

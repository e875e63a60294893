"""Cloud weights published elsewhere: files of a state dict, and nothing that could run code."""

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
    """The network in a published file.

    Of the files with 13 inputs that go around one takes the bands of Level-1C, another AOT and WVP in place of B08 and
    B10; nothing in them says which. So who uses one must name its bands.

    Raises:
        UserError: no such file, one that is not a state dict, or one of another network.
    """
    origin = locate(place).uri
    weights = read_published_weights(place)
    if config.bands == PUBLISHED_BANDS and input_channels(config, weights) == len(S2_ALL_BANDS):
        raise UserError(
            f"{origin}: takes 13 bands and does not say which; name them: for those of Level-1C "
            f"network.bands=[{','.join(S2_ALL_BANDS)}]"
        )
    try:
        return fitted_network(config, weights)
    except Misfit as misfit:
        raise UserError(f"{origin}: {misfit.what}; {misfit.do}") from None


def read_published_weights(place: Place) -> dict[str, Tensor]:
    """The tensors of a published file by name: a state dict as it is, or below `state_dict`; a prefix that all names
    share (`model.`, `module.`) is taken away.

    Raises:
        UserError: no such file, one that is no state dict, or one with Python objects in it, which are never made.
    """
    origin, content = locate(place).uri, read_bytes(place)
    tree = _safetensors(origin, content) if origin.endswith(".safetensors") else _torch(origin, content)
    for key in _NESTED:
        if isinstance(tree, dict) and isinstance(tree.get(key), dict):
            tree = tree[key]
    if not isinstance(tree, dict) or not tree or not all(isinstance(value, Tensor) for value in tree.values()):
        raise UserError(f"{origin}: not a state dict (tensors by name, or those below state_dict): save one")
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
        with warnings.catch_warnings(action="ignore"):  # what is odd about a foreign file, the refusal says
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if content.startswith((_PICKLE, _ZIP)):
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            raise UserError(
                f"{origin}: holds Python objects{f' ({found[1]})' if found else ''}, and making them could run code: "
                "refused; save the network's state_dict() alone"
            ) from None
    except UNREADABLE as error:
        if "TorchScript" in str(error):
            raise UserError(f"{origin}: a TorchScript program: refused; save the network's state_dict()") from None
        if content.startswith((_PICKLE, _ZIP)):
            raise UserError(f"{origin}: not a checkpoint of PyTorch, or damaged ({_reason(error)})") from None
    raise UserError(f"{origin}: not a checkpoint; weights come as {' or '.join(_SUFFIXES)}")


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__

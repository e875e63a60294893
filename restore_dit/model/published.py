"""Published checkpoints: the names and shapes of their tensors, and their conversion to our state dict."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restore_dit.config import ModelConfig
from restore_dit.errors import UserError
from restore_dit.model.denoiser import Denoiser
from restore_dit.series import RADAR_CHANNELS, S2_BANDS

OUTER_LAYERS = {
    "optical_embedding.projection": ("x_embedder.proj",),
    "radar_embedding.projection": ("cond_embedder.proj",),
    "step_embedding.expand": ("t_embedder.mlp.0",),
    "step_embedding.project": ("t_embedder.mlp.2",),
    "head_modulation": ("final_layer.adaLN_modulation.1",),
    "head": ("final_layer.linear",),
}
"""Maps our layers to the published layers that, stacked row-wise, they contain."""

BLOCK_LAYERS = {
    "modulation": (
        "CrossAttentionBlock.adaLN_modulation.1",
        "TemporalBlock.adaLN_modulation.1",
        "SpatialBlock.adaLN_modulation.1",
        "adaLN_modulation.1",
    ),
    "radar.norm": ("CrossAttentionBlock.norm_x",),
    "radar.radar_norm": ("CrossAttentionBlock.norm_SAR",),
    "radar.spatial.query": ("CrossAttentionBlock.spatial_attn.wq",),
    "radar.spatial.key_value": ("CrossAttentionBlock.spatial_attn.wk", "CrossAttentionBlock.spatial_attn.wv"),
    "radar.spatial.output": ("CrossAttentionBlock.spatial_attn.proj",),
    "radar.temporal.query": ("CrossAttentionBlock.temporal_attn.wq",),
    "radar.temporal.key_value": ("CrossAttentionBlock.temporal_attn.wk", "CrossAttentionBlock.temporal_attn.wv"),
    "radar.temporal.output": ("CrossAttentionBlock.temporal_attn.proj",),
    "temporal_norm": ("TemporalBlock.temporal_norm1",),
    "temporal.query_key_value": ("TemporalBlock.temporal_attn.qkv",),
    "temporal.output": ("TemporalBlock.temporal_attn.proj",),
    "spatial.query_key_value": ("SpatialBlock.attn.qkv",),
    "spatial.output": ("SpatialBlock.attn.proj",),
    "mlp.0": ("mlp.fc1",),
    "mlp.2": ("mlp.fc2",),
}
"""The same mapping within a block."""

UNUSED = ("pos_embed", "time_embed", "y_embedder.embedding_table.weight")
"""Ignored tensors: fixed tables, which we compute, and a class table that the published network never uses."""

UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    AssertionError,
)
"""What `torch.load` raises for truncated files and other formats."""


def read_published_checkpoint(
    path: str | Path, *, heads: int = 4, bands: tuple[str, ...] = S2_BANDS, radar: tuple[str, ...] | None = None
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Converts a published `.pth` file to our configuration and state dict.

    `heads` and the names of the `bands` and `radar` channels, each in the network's order, cannot be inferred from the
    weights. Nothing is unpickled: a file that contains anything other than tensors and plain containers is rejected.

    Raises:
        UserError: the file is not a published checkpoint, or does not match the given bands, channels and heads.
    """
    weights = _load(Path(path))
    config = _infer_config(path, weights, heads, bands, _radar_channels(path, weights, radar))
    return config, _convert(path, weights, config)


def published_names(name: str) -> tuple[str, ...]:
    """The published tensors that, stacked row-wise, form our tensor `name`."""
    layer, kind = name.rsplit(".", 1)
    if not layer.startswith("blocks."):
        return tuple(f"{published}.{kind}" for published in OUTER_LAYERS[layer])
    _, index, layer = layer.split(".", 2)
    return tuple(f"blocks.{index}.{published}.{kind}" for published in BLOCK_LAYERS[layer])


def _load(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, without the prefix of `DataParallel`."""
    try:
        with warnings.catch_warnings(action="ignore"):  # the error below explains what is wrong with the file
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: contains more than weights, and loading it could execute code. "
            "Save it again with tensors only (torch.save of the model's state_dict)"
        ) from None
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: truncated, or not a PyTorch checkpoint ({reason})") from None
    if isinstance(content, dict) and isinstance(content.get("model_state_dict"), dict):
        content = content["model_state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()) or not content:
        raise UserError(f"{path}: contains no model_state_dict and is not a state dict itself")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _radar_channels(
    path: str | Path, weights: dict[str, Tensor], named: tuple[str, ...] | None
) -> tuple[Any, ...]:  # ModelConfig validates the names
    """The radar channels of the network; none if the checkpoint has no radar embedding."""
    layer = "cond_embedder.proj.weight"
    count = _tensor(path, weights, layer, dimensions=4).shape[1] if layer in weights else 0
    if named is not None:
        if count != len(named):
            raise UserError(
                f"{path}: the model has {count or 'no'} radar channels, but --radar names {len(named)} "
                f"({', '.join(named) or 'none'})"
            )
        return named
    if count > len(RADAR_CHANNELS):
        raise UserError(f"{path}: {layer} has {count} radar channels; supported are 1 to {len(RADAR_CHANNELS)}")
    return RADAR_CHANNELS[:count]


def _infer_config(
    path: str | Path, weights: dict[str, Tensor], heads: int, bands: tuple[str, ...], radar: tuple[Any, ...]
) -> ModelConfig:
    patches = _tensor(path, weights, "x_embedder.proj.weight", dimensions=4)
    hidden_size, channels, patch_size, _ = patches.shape
    depth = 1 + max((int(name.split(".")[1]) for name in weights if _is_block(name)), default=-1)
    if depth == 0:
        raise UserError(f"{path}: not a published RESTORE-DiT checkpoint: no tensor is named blocks.0.…")
    hidden = _tensor(path, weights, "blocks.0.mlp.fc1.bias", dimensions=1)
    if channels != len(bands):
        raise UserError(
            f"{path}: the model has {channels} bands, but {len(bands)} are expected ({', '.join(bands)}); use --bands"
        )
    if hidden_size % heads or hidden_size % 4:
        raise UserError(f"{path}: hidden size {hidden_size} is not a multiple of 4 and of {heads} heads; set --heads")
    return ModelConfig(
        bands=bands,
        radar_channels=radar,
        patch_size=patch_size,
        hidden_size=hidden_size,
        depth=depth,
        heads=heads,
        mlp_ratio=len(hidden) / hidden_size,
        radar_attention="paired",
        gap_channel=False,
        anchor="none",
    )


def _is_block(name: str) -> bool:
    first, _, rest = name.partition(".")
    return first == "blocks" and rest.partition(".")[0].isdigit()


def _tensor(path: str | Path, weights: dict[str, Tensor], name: str, *, dimensions: int) -> Tensor:
    if name not in weights:
        raise UserError(f"{path}: not a published RESTORE-DiT checkpoint: {name} is missing")
    if weights[name].dim() != dimensions or 0 in weights[name].shape:
        raise UserError(f"{path}: {name} has shape {list(weights[name].shape)}, expected {dimensions} dimensions")
    return weights[name]


def _convert(path: str | Path, weights: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Our state dict, after checking that the names and shapes of all published tensors match."""
    with torch.device("meta"):
        ours = {name: value.shape for name, value in Denoiser(config).state_dict().items()}
    expected: dict[str, list[int]] = {}
    for name, shape in ours.items():
        published = published_names(name)
        for each in published:
            expected[each] = [shape[0] // len(published), *shape[1:]]
    for name in ("x_embedder.proj.weight", "cond_embedder.proj.weight"):
        if name in expected:
            rows, columns = expected[name]
            side = config.patch_size
            expected[name] = [rows, columns // side**2, side, side]

    misfits = [
        _listing("missing", (name for name in expected if name not in weights)),
        _listing("unexpected", (name for name in weights if name not in expected and name not in UNUSED)),
        _listing(
            "of another shape",
            (
                f"{name} {list(weights[name].shape)} instead of {shape}"
                for name, shape in expected.items()
                if name in weights and list(weights[name].shape) != shape
            ),
        ),
    ]
    if any(misfits):
        raise UserError(f"{path}: not a published RESTORE-DiT checkpoint: {'; '.join(filter(None, misfits))}")
    return {
        name: torch.cat([weights[each].flatten(1) if each.endswith("proj.weight") else weights[each] for each in parts])
        .float()
        .reshape(ours[name])
        for name, parts in ((name, published_names(name)) for name in ours)
    }


def _listing(what: str, names: Iterable[str], most: int = 3) -> str:
    found = list(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return f"{what}: {', '.join(found[:most])}{more}" if found else ""

"""The denoiser's block: radar cross-attention, attention in time, attention in space, MLP, each under adaptive norm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from restore_dit.config import ModelConfig
from restore_dit.model.attention import (
    SpatialAttention,
    SpatialCrossAttention,
    TemporalAttention,
    TemporalCrossAttention,
)

TOKENS_AT_ONCE = 4096
"""Of width 256: what lies between two layers of the MLP is then 8 MB in bf16."""


@dataclass(frozen=True)
class RadarTokens:
    """Radar as tokens [B, S, N, D] with `mask` [B, S], true where an acquisition may be looked at (None: all)."""

    tokens: Tensor
    mask: Tensor | None


class AdaptiveNorm(nn.Module):
    """LayerNorm(z)·(1 + scale) + shift with the diffusion step's scale and shift [B, D] (adaLN, Peebles & Xie 2023)."""

    def __init__(self, hidden_size: int, *, affine: bool) -> None:
        super().__init__()
        self.eps = 1e-5 if affine else 1e-6
        self.weight = nn.Parameter(torch.ones(hidden_size)) if affine else None
        self.bias = nn.Parameter(torch.zeros(hidden_size)) if affine else None

    def forward(self, tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        weight, bias = 1 + scale, shift
        if self.weight is not None and self.bias is not None:
            weight, bias = self.weight * weight, torch.addcmul(bias, self.bias, weight)
        weight, bias = weight.to(tokens.dtype), bias.to(tokens.dtype)
        if len(tokens) == 1 and tokens.device.type == "cpu":
            # One example: the modulation is the norm's own affine part, in the same pass.
            return functional.layer_norm(tokens, tokens.shape[-1:], weight[0], bias[0], self.eps)
        normed = functional.layer_norm(tokens, tokens.shape[-1:], None, None, self.eps)
        return torch.addcmul(bias[:, None, None], normed, weight[:, None, None])


def add_gated(tokens: Tensor, gate: Tensor, change: Tensor) -> Tensor:
    """tokens + gate·change with gate [B, D]; in place where no gradient needs the old tokens."""
    gate = gate[:, None, None].to(tokens.dtype)
    if torch.is_grad_enabled():
        return torch.addcmul(tokens, gate, change.to(tokens.dtype))
    return tokens.addcmul_(gate, change.to(tokens.dtype))


def add_gated_by_frames(tokens: Tensor, gate: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """tokens + gate·change(tokens) where no frame's change depends on another frame: on a processor without gradients
    a few frames at a time, so that what lies between stays in its cache."""
    if torch.is_grad_enabled() or tokens.device.type != "cpu":
        return add_gated(tokens, gate, change(tokens))
    for few in tokens.split(max(1, TOKENS_AT_ONCE // tokens.shape[2]), dim=1):
        add_gated(few, gate, change(few))
    return tokens


class RadarAttention(nn.Module):
    """What each optical token takes from the radar. `paired`, as published: first from the radar frame beside it in
    space, and with that as the query from all radar frames of its position. Else from the acquisitions of its
    position, whatever their dates."""

    def __init__(self, hidden_size: int, heads: int, *, paired: bool) -> None:
        super().__init__()
        self.norm = AdaptiveNorm(hidden_size, affine=True)
        self.radar_norm = nn.LayerNorm(hidden_size, eps=1e-5)
        self.spatial = SpatialCrossAttention(hidden_size, heads) if paired else None
        self.temporal = TemporalCrossAttention(hidden_size, heads)

    def forward(self, tokens: Tensor, shift: Tensor, scale: Tensor, radar: RadarTokens) -> Tensor:
        query = self.norm(tokens, shift, scale)
        others = self.radar_norm(radar.tokens)
        if self.spatial is not None:
            query = self.spatial(query, others)
        changed: Tensor = self.temporal(query, others, radar.mask)
        return changed


class Block(nn.Module):
    """One block on tokens [B, T, N, D]. Its modulation is shift, scale and gate for each part, in the order radar
    (where the model has it), time, space, MLP."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size, heads = config.hidden_size, config.heads
        self.modulation = nn.Linear(size, (12 if config.radar_channels else 9) * size)
        self.radar = None
        if config.radar_channels:
            self.radar = RadarAttention(size, heads, paired=config.radar_attention == "paired")
        self.temporal_norm = AdaptiveNorm(size, affine=True)
        self.temporal = TemporalAttention(size, heads)
        self.spatial_norm = AdaptiveNorm(size, affine=False)
        self.spatial = SpatialAttention(size, heads)
        self.mlp_norm = AdaptiveNorm(size, affine=False)
        self.mlp = nn.Sequential(
            nn.Linear(size, int(size * config.mlp_ratio)),
            nn.GELU(approximate="tanh"),
            nn.Linear(int(size * config.mlp_ratio), size),
        )

    def forward(
        self, tokens: Tensor, modulation: Tensor, radar: RadarTokens | None, frame_mask: Tensor | None
    ) -> Tensor:
        """`modulation` is what `self.modulation` made of the step's code; `frame_mask` [B, T] marks real frames."""
        *of_radar, of_time, of_space, of_mlp = modulation.unflatten(-1, (-1, 3, tokens.shape[-1])).unbind(1)
        if self.radar is not None and radar is not None:
            shift, scale, gate = of_radar[0].unbind(1)
            tokens = add_gated(tokens, gate, self.radar(tokens, shift, scale, radar))
        shift, scale, gate = of_time.unbind(1)
        tokens = add_gated(tokens, gate, self.temporal(self.temporal_norm(tokens, shift, scale), frame_mask))
        shift, scale, gate = of_space.unbind(1)
        tokens = add_gated_by_frames(tokens, gate, partial(self._in_space, shift, scale))
        shift, scale, gate = of_mlp.unbind(1)
        return add_gated_by_frames(tokens, gate, partial(self._each_token, shift, scale))

    def _in_space(self, shift: Tensor, scale: Tensor, tokens: Tensor) -> Tensor:
        return self.spatial(self.spatial_norm(tokens, shift, scale))

    def _each_token(self, shift: Tensor, scale: Tensor, tokens: Tensor) -> Tensor:
        return self.mlp(self.mlp_norm(tokens, shift, scale))

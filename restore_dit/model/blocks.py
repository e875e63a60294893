"""The denoiser's block: radar cross-attention, temporal and spatial attention and an MLP, each with adaptive norm."""

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
"""Tokens processed together on a CPU: with width 256, the MLP's hidden activations then take 8 MB in bf16."""


@dataclass(frozen=True)
class RadarTokens:
    """Radar as tokens [B, S, N, D] with `mask` [B, S], true where an acquisition may be attended to (None: all)."""

    tokens: Tensor
    mask: Tensor | None


class AdaptiveNorm(nn.Module):
    """LayerNorm(z)·(1 + scale) + shift, with scale and shift [B, D] from the diffusion step (adaLN, Peebles & Xie
    2023)."""

    def __init__(self, hidden_size: int, *, affine: bool) -> None:
        super().__init__()
        # As published, so that published weights give the published outputs.
        self.eps = 1e-5 if affine else 1e-6
        self.weight = nn.Parameter(torch.ones(hidden_size)) if affine else None
        self.bias = nn.Parameter(torch.zeros(hidden_size)) if affine else None

    def forward(self, tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        weight, bias = 1 + scale, shift
        if self.weight is not None and self.bias is not None:
            weight, bias = self.weight * weight, torch.addcmul(bias, self.bias, weight)
        weight, bias = weight.to(tokens.dtype), bias.to(tokens.dtype)
        if len(tokens) == 1 and tokens.device.type == "cpu":
            # For a single example, the modulation can be the norm's own affine part, in one pass.
            return functional.layer_norm(tokens, tokens.shape[-1:], weight[0], bias[0], self.eps)
        normed = functional.layer_norm(tokens, tokens.shape[-1:], None, None, self.eps)
        return torch.addcmul(bias[:, None, None], normed, weight[:, None, None])


def add_gated(tokens: Tensor, gate: Tensor, change: Tensor) -> Tensor:
    """tokens + gate·change with gate [B, D]; in place if gradients are disabled."""
    gate = gate[:, None, None].to(tokens.dtype)
    if torch.is_grad_enabled():
        return torch.addcmul(tokens, gate, change.to(tokens.dtype))
    return tokens.addcmul_(gate, change.to(tokens.dtype))


def add_gated_by_frames(tokens: Tensor, gate: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """tokens + gate·change(tokens), for a `change` that treats each frame independently. On a CPU without gradients it
    processes a few frames at a time, so that intermediate results stay in the cache."""
    if torch.is_grad_enabled() or tokens.device.type != "cpu":
        return add_gated(tokens, gate, change(tokens))
    for few in tokens.split(max(1, TOKENS_AT_ONCE // tokens.shape[2]), dim=1):
        add_gated(few, gate, change(few))
    return tokens


class RadarAttention(nn.Module):
    """Cross-attention from optical to radar tokens. If `paired`, as published, each frame first attends in space to its
    paired radar frame, and the result is the query to all radar frames at its position. Otherwise, each token attends
    to all acquisitions at its position, on whatever dates."""

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
    """One block on tokens [B, T, N, D]. Its modulation holds shift, scale and gate of each part, in the order radar (if
    the model uses it), time, space, MLP."""

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
        """`modulation` [B, 9·D or 12·D] is `self.modulation` of the step embedding; `frame_mask` [B, T] is false for
        padding frames."""
        *radar_modulation, in_time, in_space, in_mlp = modulation.unflatten(-1, (-1, 3, tokens.shape[-1])).unbind(1)
        if self.radar is not None and radar is not None:
            shift, scale, gate = radar_modulation[0].unbind(1)
            tokens = add_gated(tokens, gate, self.radar(tokens, shift, scale, radar))
        shift, scale, gate = in_time.unbind(1)
        tokens = add_gated(tokens, gate, self.temporal(self.temporal_norm(tokens, shift, scale), frame_mask))
        shift, scale, gate = in_space.unbind(1)
        tokens = add_gated_by_frames(tokens, gate, partial(self._in_space, shift, scale))
        shift, scale, gate = in_mlp.unbind(1)
        return add_gated_by_frames(tokens, gate, partial(self._each_token, shift, scale))

    def _in_space(self, shift: Tensor, scale: Tensor, tokens: Tensor) -> Tensor:
        return self.spatial(self.spatial_norm(tokens, shift, scale))

    def _each_token(self, shift: Tensor, scale: Tensor, tokens: Tensor) -> Tensor:
        return self.mlp(self.mlp_norm(tokens, shift, scale))

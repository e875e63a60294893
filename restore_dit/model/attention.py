"""Attention among the tokens of a frame and among the frames of a position, always fused: no score matrix in memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from restore_dit.model import attention_gradient


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, key_mask: Tensor | None = None) -> Tensor:
    """Multi-head attention along the last but one axis: query [A, B, Q, D], key and value [A, B, K, D] to
    [A, B, Q, D]. `key_mask` [A, K] is true where a key may be looked at; some key must be, for each A."""
    first, second, queries, features = query.shape

    def split(tensor: Tensor) -> Tensor:
        return tensor.unflatten(-1, (heads, features // heads)).flatten(0, 1).transpose(1, 2)

    mask = None
    if key_mask is not None:
        mask = key_mask[:, None, None, None].expand(-1, second, 1, queries, -1).flatten(0, 1)
    query, key, value = split(query), split(key), split(value)
    if attention_gradient.suits(query, key):
        mixed = attention_gradient.ProductGradient.apply(query, key, value, mask)
    else:
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    merged: Tensor = mixed.transpose(1, 2).unflatten(0, (first, second)).flatten(-2)
    return merged


class MultiHeadAttention(nn.Module):
    """Attention of tokens [B, T, N, D] in space or in time, once query, key and value are there."""

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.output = nn.Linear(hidden_size, hidden_size)

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Among the N tokens of each frame."""
        changed: Tensor = self.output(attend(query, key, value, self.heads).contiguous())
        return changed

    def mix_frames(self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor | None) -> Tensor:
        """Among the frames of each position; those outside `key_mask` [B, frames] are not looked at."""
        # Tokens stay in the order of frames: the kernel takes and gives strided views, so nothing is copied.
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
        mixed = attend(query, key, value, self.heads, key_mask).transpose(1, 2)
        changed: Tensor = self.output(mixed.contiguous())
        return changed


class SelfAttention(MultiHeadAttention):
    """Among tokens [B, T, N, D], with query, key and value from one product."""

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__(hidden_size, heads)
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)


class SpatialAttention(SelfAttention):
    """Among the N tokens of each frame."""

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mix(*self.query_key_value(tokens).chunk(3, dim=-1))


class TemporalAttention(SelfAttention):
    """Among the T frames of each position; frames outside `frame_mask` [B, T] are not looked at."""

    def forward(self, tokens: Tensor, frame_mask: Tensor | None) -> Tensor:
        query, key, value = self.query_key_value(tokens).chunk(3, dim=-1)
        return self.mix_frames(query, key, value, frame_mask)


class CrossAttention(MultiHeadAttention):
    """From tokens [B, T, N, D] to others [B, S, N, D]."""

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__(hidden_size, heads)
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size)


class SpatialCrossAttention(CrossAttention):
    """From each frame's N tokens to the N tokens of the other frame beside it; S = T."""

    def forward(self, tokens: Tensor, others: Tensor) -> Tensor:
        return self.mix(self.query(tokens), *self.key_value(others).chunk(2, dim=-1))


class TemporalCrossAttention(CrossAttention):
    """From the T frames of a position to its S others; those outside `key_mask` [B, S] are not looked at, and for a
    series that has none at all the result is zero."""

    def forward(self, tokens: Tensor, others: Tensor, key_mask: Tensor | None) -> Tensor:
        key, value = self.key_value(others).chunk(2, dim=-1)
        if key_mask is None:
            return self.mix_frames(self.query(tokens), key, value, None)
        any_key = key_mask.any(dim=1, keepdim=True)
        mixed = self.mix_frames(self.query(tokens), key, value, key_mask | ~any_key)
        return torch.where(any_key[:, :, None, None], mixed, 0)

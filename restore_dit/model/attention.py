"""Attention among the tokens of a frame and among the frames of a position, always fused: no score matrix in memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, key_mask: Tensor | None = None) -> Tensor:
    """Multi-head attention along the last but one axis: query [A, B, Q, D], key and value [A, B, K, D] to
    [A, B, Q, D]. `key_mask` [A, K] is true where a key may be looked at; some key must be, for each A."""
    first, second, queries, features = query.shape

    def split(tensor: Tensor) -> Tensor:
        return tensor.unflatten(-1, (heads, features // heads)).flatten(0, 1).transpose(1, 2)

    mask = None
    if key_mask is not None:
        mask = key_mask[:, None, None, None].expand(-1, second, 1, queries, -1).flatten(0, 1)
    mixed = functional.scaled_dot_product_attention(split(query), split(key), split(value), attn_mask=mask)
    return mixed.transpose(1, 2).reshape(first, second, queries, features)


class SelfAttention(nn.Module):
    """Self-attention on tokens [B, T, N, D], with query, key and value from one product."""

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)

    def among_positions(self, tokens: Tensor) -> Tensor:
        """Among the N tokens of each frame."""
        return self.forward(tokens)

    def among_frames(self, tokens: Tensor, frame_mask: Tensor | None) -> Tensor:
        """Among the T frames of each position; frames outside `frame_mask` [B, T] are not looked at."""
        return self.forward(tokens.transpose(1, 2), frame_mask).transpose(1, 2)

    def forward(self, tokens: Tensor, key_mask: Tensor | None = None) -> Tensor:
        query, key, value = self.query_key_value(tokens).chunk(3, dim=-1)
        mixed: Tensor = self.output(attend(query, key, value, self.heads, key_mask))
        return mixed


class CrossAttention(nn.Module):
    """Attention from tokens [B, T, N, D] to others [B, S, N, D]."""

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)

    def among_positions(self, tokens: Tensor, others: Tensor) -> Tensor:
        """From each frame's N tokens to the other frame's N tokens; S = T."""
        return self.forward(tokens, others)

    def among_frames(self, tokens: Tensor, others: Tensor, key_mask: Tensor | None) -> Tensor:
        """From the T frames of a position to its S others; those outside `key_mask` [B, S] are not looked at, and
        where a series has none at all the result is zero."""
        if key_mask is None:
            return self.forward(tokens.transpose(1, 2), others.transpose(1, 2)).transpose(1, 2)
        any_key = key_mask.any(dim=1, keepdim=True)
        mixed = self.forward(tokens.transpose(1, 2), others.transpose(1, 2), key_mask | ~any_key).transpose(1, 2)
        return torch.where(any_key[:, :, None, None], mixed, 0)

    def forward(self, tokens: Tensor, others: Tensor, key_mask: Tensor | None = None) -> Tensor:
        key, value = self.key_value(others).chunk(2, dim=-1)
        mixed: Tensor = self.output(attend(self.query(tokens), key, value, self.heads, key_mask))
        return mixed

"""Spatial attention among the tokens of a frame, temporal attention among the frames at a position, and a gradient of
attention that is faster on CPUs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, key_mask: Tensor | None = None) -> Tensor:
    """Multi-head attention along the second-to-last axis: query [A, B, Q, D], key and value [A, B, K, D] to
    [A, B, Q, D]. `key_mask` [A, K] is true where a key may be attended to; each A needs at least one such key."""
    first, second, queries, features = query.shape

    def split(tensor: Tensor) -> Tensor:
        return tensor.unflatten(-1, (heads, features // heads)).flatten(0, 1).transpose(1, 2)

    mask = None
    if key_mask is not None:
        mask = key_mask[:, None, None, None].expand(-1, second, 1, queries, -1).flatten(0, 1)
    query, key, value = split(query), split(key), split(value)
    if suits_product_gradient(query, key):
        mixed = ProductGradient.apply(query, key, value, mask)
    else:
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    merged: Tensor = mixed.transpose(1, 2).unflatten(0, (first, second)).flatten(-2)
    return merged


class MultiHeadAttention(nn.Module):
    """Attention of tokens [B, T, N, D] in space or in time, given query, key and value; subclasses compute these."""

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.output = nn.Linear(hidden_size, hidden_size)

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention among the N tokens of each frame."""
        changed: Tensor = self.output(attend(query, key, value, self.heads).contiguous())
        return changed

    def mix_frames(self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor | None) -> Tensor:
        """Attention among the frames at each position; frames outside `key_mask` [B, frames] are not attended to."""
        # The kernel reads and writes strided views, so transposing the tokens copies nothing.
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
        mixed = attend(query, key, value, self.heads, key_mask).transpose(1, 2)
        changed: Tensor = self.output(mixed.contiguous())
        return changed


class SelfAttention(MultiHeadAttention):
    """Self-attention of tokens [B, T, N, D], with query, key and value from one matrix product."""

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__(hidden_size, heads)
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)


class SpatialAttention(SelfAttention):
    """Self-attention among the N tokens of each frame."""

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mix(*self.query_key_value(tokens).chunk(3, dim=-1))


class TemporalAttention(SelfAttention):
    """Self-attention among the T frames at each position; frames outside `frame_mask` [B, T] are not attended to."""

    def forward(self, tokens: Tensor, frame_mask: Tensor | None) -> Tensor:
        query, key, value = self.query_key_value(tokens).chunk(3, dim=-1)
        return self.mix_frames(query, key, value, frame_mask)


class CrossAttention(MultiHeadAttention):
    """Attention from tokens [B, T, N, D] to other tokens [B, S, N, D]."""

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__(hidden_size, heads)
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size)


class SpatialCrossAttention(CrossAttention):
    """Attention from the N tokens of each frame to the N tokens of the paired other frame; S = T."""

    def forward(self, tokens: Tensor, others: Tensor) -> Tensor:
        return self.mix(self.query(tokens), *self.key_value(others).chunk(2, dim=-1))


class TemporalCrossAttention(CrossAttention):
    """Attention from the T frames at a position to the S other frames there. Frames outside `key_mask` [B, S] are not
    attended to; for a series whose mask is false throughout, the result is zero."""

    def forward(self, tokens: Tensor, others: Tensor, key_mask: Tensor | None) -> Tensor:
        key, value = self.key_value(others).chunk(2, dim=-1)
        if key_mask is None:
            return self.mix_frames(self.query(tokens), key, value, None)
        # A softmax over no key is NaN, in the gradient too. Such rows attend to every key, and
        # their result is replaced by 0.
        any_key = key_mask.any(dim=1, keepdim=True)
        mixed = self.mix_frames(self.query(tokens), key, value, key_mask | ~any_key)
        return torch.where(any_key[:, :, None, None], mixed, 0)


MAX_SCORES = 2**24
"""Maximum number of attention scores, 32 MB in bf16. For more, as among the positions of a frame, PyTorch's kernel is
used, which never stores the score matrix."""


class ProductGradient(torch.autograd.Function):
    """Attention of query [A, h, Q, d] to key and value [A, h, K, d]. The optional `mask` [A, 1, Q, K] is true where a
    query may attend to a key; each query needs at least one. Only the inputs are saved for the backward pass."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        ctx.save_for_backward(query, key, value, mask)
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, mask = ctx.saved_tensors
        scale = query.shape[-1] ** -0.5
        # Recomputed rather than saved, which would keep the scores of all blocks in memory until the backward pass.
        scores = (query * scale) @ key.transpose(-2, -1)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        with torch.enable_grad():  # PyTorch's softmax backward is one fused pass
            weights = scores.requires_grad_().softmax(dim=-1)
        (scores_gradient,) = torch.autograd.grad(weights, scores, gradient @ value.transpose(-2, -1))
        value_gradient = weights.detach().transpose(-2, -1) @ gradient
        return (
            (scores_gradient @ key) * scale,
            (scores_gradient.transpose(-2, -1) @ query) * scale,
            value_gradient,
            None,
        )


def suits_product_gradient(query: Tensor, key: Tensor) -> bool:
    """Whether `ProductGradient` is the faster choice for a query [A, h, Q, d] and key [A, h, K, d]."""
    scores = query.shape[:3].numel() * key.shape[2]
    return query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.requires_grad and scores <= MAX_SCORES

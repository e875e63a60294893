"""Attention in bf16 on a processor: PyTorch's fused kernel forwards, and backwards matrix products on a few heads at a
time.

PyTorch's own backward pass is meant for fp32: in bf16 it takes twice the time of these products on long sequences, and
twenty times on short ones. No more than `SCORES_AT_ONCE` scores are in memory, and nothing but query, key and value is
kept from the forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

SCORES_AT_ONCE = 2**22
"""8 MB in bf16: a frame of 1024 tokens with 4 heads."""


class PiecewiseGradient(torch.autograd.Function):
    """Attention of query [A, h, Q, d] to key and value [A, h, K, d], where `mask` [A, 1, Q, K] is true if there is one;
    some key must be free for each query."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        ctx.save_for_backward(query, key, value, mask)
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, mask = ctx.saved_tensors
        inputs = (query, key, value)
        results = [torch.empty_like(tensor) for tensor in inputs]
        sequences, heads, queries, _ = query.shape
        scores = queries * key.shape[2]
        sequences_at_once = max(1, SCORES_AT_ONCE // (scores * heads))
        heads_at_once = heads if scores * heads <= SCORES_AT_ONCE else max(1, SCORES_AT_ONCE // scores)
        with torch.autocast(query.device.type, enabled=False):
            for first in range(0, sequences, sequences_at_once):
                some = slice(first, first + sequences_at_once)
                for head in range(0, heads, heads_at_once):
                    piece = (some, slice(head, head + heads_at_once))
                    q, k, v = (tensor[piece] for tensor in inputs)
                    parts = _gradients(q, k, v, gradient[piece], None if mask is None else mask[some])
                    for result, part in zip(results, parts, strict=True):
                        result[piece] = part
        return results[0], results[1], results[2], None


def _gradients(
    query: Tensor, key: Tensor, value: Tensor, gradient: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value from that of softmax(QKᵀ/√d)·V."""
    scale = query.shape[-1] ** -0.5
    scores = (query * scale) @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    with torch.enable_grad():  # the softmax's own gradient is one fused pass
        weights = scores.requires_grad_().softmax(dim=-1)
    weights_gradient = gradient @ value.transpose(-2, -1)
    (scores_gradient,) = torch.autograd.grad(weights, scores, weights_gradient)
    weights = weights.detach()
    # Transposed twice: a product with a large transposed left side is slow in bf16.
    value_gradient = (gradient.transpose(-2, -1) @ weights).transpose(-2, -1)
    key_gradient = (query.transpose(-2, -1) @ scores_gradient).transpose(-2, -1)
    return (scores_gradient @ key) * scale, key_gradient * scale, value_gradient

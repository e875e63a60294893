"""The gradient of attention in bf16 on a processor where sequences are short, as the frames of a position are.

PyTorch's kernel takes many times longer backwards there than the five matrix products do: 263 ms against 22 for 1024
positions of 15 frames on 2 cores.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

MOST_SCORES = 2**24
"""32 MB in bf16: with more of them, as among the positions of a frame, PyTorch's kernel does without the matrix."""


class ProductGradient(torch.autograd.Function):
    """Attention of query [A, h, Q, d] to key and value [A, h, K, d], where `mask` [A, 1, Q, K] is true if there is one;
    some key must be free for each query. Keeps nothing but its inputs for the backward pass."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        ctx.save_for_backward(query, key, value, mask)
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, mask = ctx.saved_tensors
        scale = query.shape[-1] ** -0.5
        scores = (query * scale) @ key.transpose(-2, -1)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        with torch.enable_grad():  # the softmax's own gradient is one fused pass
            weights = scores.requires_grad_().softmax(dim=-1)
        (of_scores,) = torch.autograd.grad(weights, scores, gradient @ value.transpose(-2, -1))
        of_value = weights.detach().transpose(-2, -1) @ gradient
        return (of_scores @ key) * scale, (of_scores.transpose(-2, -1) @ query) * scale, of_value, None


def suits(query: Tensor, key: Tensor) -> bool:
    """Whether this is the faster way backwards for these [A, h, Q, d] and [A, h, K, d]."""
    scores = query.shape[:3].numel() * key.shape[2]
    return (
        query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.requires_grad and scores <= MOST_SCORES
    )

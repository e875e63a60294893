"""The loss of a denoiser that predicts its own uncertainty."""

from __future__ import annotations

import torch
from torch import Tensor

from restore_dit.model.pixel_denoiser import RESIDUAL_SCALE, Estimate

KNEE = 0.04
"""Huber threshold on the network's scale: larger errors count linearly, not squared, because some targets lie in haze
or shadow that no mask shows."""

_OF_LIKELIHOOD, _OF_FRAMES = 0.1, 0.3
_LEAST_FRAME_ERROR = 1e-4  # mean square on the network's scale


def robust_loss(estimate: Estimate, clean: Tensor, counted: Tensor) -> Tensor:
    """Loss of each example, [B] float32; 0 where nothing counts.

    Args:
        estimate: mean and standard deviation, [B, T, C, H, W] on the network's scale.
        clean: the target, of the same shape and scale.
        counted: bool, of the same shape; elements that count.

    The sum of three terms: the Huber loss of the mean, in units of `RESIDUAL_SCALE`; 0.1 times the Gaussian negative
    log-likelihood, weighted by the standard deviation (β-NLL with β = ½, Seitzer et al. 2022), with gradients for the
    standard deviation only; and 0.3 times half the logarithm of each frame's mean squared error, averaged over frames,
    so that frames that are easy to fill count as well.
    """
    weight = counted.float()
    number = weight.sum(dim=(1, 2, 3, 4)).clamp(min=1)
    error = estimate.mean - clean
    size, squared = error.abs(), error.square()
    huber = torch.where(size < KNEE, 0.5 / KNEE * squared, size - 0.5 * KNEE) / RESIDUAL_SCALE
    deviation = estimate.deviation
    likelihood = deviation.log() + 0.5 * squared.detach() / deviation.square()
    likelihood = likelihood * (deviation.detach() / RESIDUAL_SCALE)
    of_values = ((huber + _OF_LIKELIHOOD * likelihood) * weight).sum(dim=(1, 2, 3, 4)) / number

    in_frame = weight.sum(dim=(2, 3, 4))
    frame_error = (squared * weight).sum(dim=(2, 3, 4)) / in_frame.clamp(min=1)
    scored = (in_frame > 0).float()
    logarithm = 0.5 * (frame_error + _LEAST_FRAME_ERROR).log() * scored
    return of_values + _OF_FRAMES * logarithm.sum(dim=1) / scored.sum(dim=1).clamp(min=1)

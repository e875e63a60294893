"""The training objective: predict the clean series where it is missing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from restore_dit.config import DiffusionConfig
from restore_dit.diffusion.schedule import NoiseSchedule
from restore_dit.model.conditioning import Conditioning

DenoisingFunction = Callable[[Tensor, Tensor, Conditioning], Tensor]
"""(noisy [B, T, C, H, W], step [B], conditioning) to the estimate of the clean series; a `Denoiser`, or a stand-in."""


def training_loss(
    denoiser: DenoisingFunction,
    target: Tensor,
    noise: Tensor,
    step: Tensor,
    conditioning: Conditioning,
    valid: Tensor,
    schedule: NoiseSchedule,
    config: DiffusionConfig,
    veiled: Tensor | None = None,
) -> Tensor:
    """Squared error of the missing pixels, one number an example: [B] float32.

    target: [B, T, C, H, W] in [-1, 1]; never read where it is not valid.
    noise: the same shape, standard normal.
    step: [B] of the schedule.
    conditioning: its `gap_mask` says what is missing (absent: everything), its `observed` what is seen of the rest
        (absent: the target).
    valid: [B, T, 1, H, W] bool, true where the target is known.
    veiled: [B, T, 1, H, W] bool, observed pixels that look other than the target; they count as missing ones do, though
        the network is not told (absent: none).

    The network sees m·x_t + (1−m)·x_0. With `loss_over="all"` the sum of squared errors of missing pixels is divided
    by the number of all elements, which for a wholly valid batch is the paper's mean((m·x_0 − m·x̂_0)²); with
    "missing" by the number of missing valid ones (0 where there are none).
    """
    missing = conditioning.gap_mask
    if missing is None:
        missing = torch.ones_like(valid)
    clean = torch.where(valid, target, 0)
    seen = clean if conditioning.observed is None else conditioning.observed
    noisy = torch.where(missing, schedule.add_noise(clean, noise, step), seen)
    estimate = denoiser(noisy, step, conditioning).float()

    counted = (missing if veiled is None else missing | veiled) & valid
    error = torch.where(counted, estimate - clean, 0).square().sum(dim=(1, 2, 3, 4))
    averaged_over = counted if config.loss_over == "missing" else torch.ones_like(valid)
    elements = averaged_over.sum(dim=(1, 2, 3, 4)) * target.shape[2]
    return error / elements.clamp(min=1)

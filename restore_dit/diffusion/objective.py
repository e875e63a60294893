"""The training objective: predict the missing pixels as the clean series, its noise or a mixture of both; for a
network that estimates its uncertainty, with a robust loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from restore_dit.config import DiffusionConfig
from restore_dit.diffusion.prediction import Prediction
from restore_dit.model.conditioning import Conditioning
from restore_dit.model.evidence import pixels_of
from restore_dit.model.pixel_denoiser import RESIDUAL_SCALE, Estimate, PixelDenoiser

DenoisingFunction = Callable[[Tensor, Tensor, Conditioning], Tensor]
"""(noisy [B, T, C, H, W], step [B], conditioning) → the output that a `Prediction` defines; a `Denoiser` or a
stand-in."""


def training_loss(
    denoiser: DenoisingFunction,
    target: Tensor,
    noise: Tensor,
    step: Tensor,
    conditioning: Conditioning,
    valid: Tensor,
    prediction: Prediction,
    config: DiffusionConfig,
    veiled: Tensor | None = None,
) -> Tensor:
    """Error over the missing pixels of each example, [B] float32: the squared error, or for pixel networks
    `robust_loss`, averaged over the members of the ensemble, each of which is trained independently.

    Args:
        target: [B, T, C, H, W] in [-1, 1]; never read where it is not valid.
        noise: standard normal, like `target`.
        step: [B], integer steps of the prediction's schedule.
        conditioning: `gap_mask` marks what is missing (None: everything); `observed` holds the visible values of the
            other pixels (None: the target).
        valid: [B, T, 1, H, W] bool, true where the target is known.
        veiled: [B, T, 1, H, W] bool, pixels shown as observed whose values differ from the target (None: nowhere). They
            count in the loss like missing pixels, although the network is not told about them; only if the clean series
            is predicted, since they carry no noise that could be predicted.

    The network's input is m·x_t + (1−m)·x_0. The sum of squared errors over missing pixels is divided by the number of
    all elements with `loss_over="all"`, which for an entirely valid batch is the paper's mean((m·x_0 − m·x̂_0)²), and
    by the number of valid missing elements with "missing" (0 where there are none). If the conditioning has `pixels`,
    only these count.
    """
    missing = conditioning.gap_mask
    if missing is None:
        missing = torch.ones_like(valid)
    clean = torch.where(valid, target, 0)
    seen = clean if conditioning.observed is None else conditioning.observed
    noisy = torch.where(missing, prediction.schedule.add_noise(clean, noise, step), seen)
    step_conditioning = replace(
        conditioning, prior_weights=prediction.prior_weights(step), levels=prediction.schedule.levels(step)
    )
    if veiled is not None and prediction.is_clean:
        missing = missing | veiled
    counted = missing & valid
    if isinstance(denoiser, PixelDenoiser):
        if conditioning.pixels is not None:
            clean, counted = pixels_of(clean, conditioning.pixels), pixels_of(counted, conditioning.pixels)
        in_bands = counted.expand_as(clean)
        if conditioning.band_mask is not None:
            in_bands = in_bands & conditioning.band_mask[:, None, :, None, None]
        estimates = denoiser.estimates(noisy, step, step_conditioning)
        return torch.stack([robust_loss(estimate, clean, in_bands) for estimate in estimates]).mean(dim=0)
    output = denoiser(noisy, step, step_conditioning).float()
    error = torch.where(counted, output - prediction.target(clean, noise, step), 0).square().sum(dim=(1, 2, 3, 4))
    averaged_over = counted if config.loss_over == "missing" else torch.ones_like(valid)
    elements = averaged_over.sum(dim=(1, 2, 3, 4)) * target.shape[2]
    return error / elements.clamp(min=1)


KNEE = 0.04
"""Huber threshold on the network's scale: larger errors count linearly, not squared, because some targets lie in haze
or shadow that no mask shows."""

_OF_LIKELIHOOD, _OF_FRAMES = 0.1, 0.3
_MIN_FRAME_ERROR = 1e-4  # mean square on the network's scale


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
    logarithm = 0.5 * (frame_error + _MIN_FRAME_ERROR).log() * scored
    return of_values + _OF_FRAMES * logarithm.sum(dim=1) / scored.sum(dim=1).clamp(min=1)

"""The module that the engine wraps: from a batch to its weighted loss, in the run's precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from restore_dit.config import DiffusionConfig
from restore_dit.data.examples.batch import Batch
from restore_dit.diffusion.objective import training_loss
from restore_dit.diffusion.prediction import Prediction
from restore_dit.diffusion.training_steps import training_steps
from restore_dit.diffusion.weighting import loss_weights
from restore_dit.model.denoiser import Denoiser


class ObjectiveModule(nn.Module):
    """Sum over a batch of each example's loss times its weight.

    bf16 runs the forward pass under autocast: the parameters that the optimiser steps stay fp32, so there are no
    second, rounded weights to keep in step with their masters.
    """

    def __init__(self, denoiser: Denoiser, diffusion: DiffusionConfig, precision: str) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.diffusion = diffusion
        self.precision = precision
        self.prediction = Prediction.from_config(diffusion)
        self.loss_weights = loss_weights(diffusion, self.prediction)

    def forward(self, batch: Batch) -> Tensor:
        """Weighted sum of losses, a scalar in fp32."""
        device = batch.target.device
        step = training_steps(batch.quantile, self.prediction.schedule, self.diffusion)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            losses = training_loss(
                self.denoiser,
                batch.target,
                batch.noise(),
                step,
                batch.conditioning,
                batch.valid,
                self.prediction,
                self.diffusion,
                batch.veiled,
            )
        return (losses.float() * self.loss_weights.to(device)[step] * batch.weight).sum()

"""Loss weights of the steps of the noise schedule."""

from __future__ import annotations

import torch
from torch import Tensor

from restore_dit.config import DiffusionConfig
from restore_dit.diffusion.prediction import Prediction


def loss_weights(config: DiffusionConfig, prediction: Prediction) -> Tensor:
    """Weight of the squared error of the network's output at each step, [steps] float32.

    uniform: 1. min_snr: a squared error of x_0 is weighted by min(SNR, γ) (Hang et al. 2023). The weight of the
    output's error is that times the squared factor from the output to x_0: min(SNR, γ)/SNR for ε, min(SNR, γ)/(SNR + 1)
    for v.
    """
    if config.loss_weighting == "uniform":
        return torch.ones(len(prediction.schedule))
    limited = prediction.schedule.signal_to_noise.clamp(max=config.min_snr_gamma)
    return (limited * prediction.of_output.square()).float()

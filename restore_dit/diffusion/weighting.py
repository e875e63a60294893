"""How much the error at each step of the noise schedule counts."""

from __future__ import annotations

import torch
from torch import Tensor

from restore_dit.config import DiffusionConfig
from restore_dit.diffusion.prediction import Prediction


def loss_weights(config: DiffusionConfig, prediction: Prediction) -> Tensor:
    """Factor of the squared error of the network's output, [steps] float32.

    uniform: 1. min_snr: an error of x_0 counts min(SNR, γ) (Hang et al. 2023), so that of the output as much times the
    square of how far it moves x_0: for ε min(SNR, γ)/SNR, for v min(SNR, γ)/(SNR + 1).
    """
    if config.loss_weighting == "uniform":
        return torch.ones(len(prediction.schedule))
    limited = prediction.schedule.signal_to_noise.clamp(max=config.min_snr_gamma)
    return (limited * prediction.of_output.square()).float()

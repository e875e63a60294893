"""Noise schedules: how much of the clean series is left at each step of the forward process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from restore_dit.config import DiffusionConfig


def linear_betas(config: DiffusionConfig) -> Tensor:
    """Variances growing linearly from `beta_start` to `beta_end` (Ho et al. 2020), [steps] float32."""
    return torch.linspace(config.beta_start, config.beta_end, config.steps, dtype=torch.float32)


BETAS: dict[str, Callable[[DiffusionConfig], Tensor]] = {"linear": linear_betas}
"""Builders of the variances of each step, by `DiffusionConfig.schedule`."""


@dataclass(frozen=True)
class NoiseSchedule:
    """`alphas_cumprod` [steps] float32: ᾱ_t, the share of the clean signal's variance at step t."""

    alphas_cumprod: Tensor

    @classmethod
    def from_config(cls, config: DiffusionConfig) -> NoiseSchedule:
        """The schedule that a configuration names."""
        return cls(torch.cumprod(1.0 - BETAS[config.schedule](config), dim=0))

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def add_noise(self, clean: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        """x_t = √ᾱ_t·x_0 + √(1−ᾱ_t)·ε for [B, …] tensors and integer steps [B]."""
        alpha = self.alphas_cumprod.to(clean.device)[step].view(-1, *[1] * (clean.dim() - 1))
        return alpha.sqrt().to(clean.dtype) * clean + (1 - alpha).sqrt().to(clean.dtype) * noise

"""The steps of the noise schedule at which training examples are noised."""

from __future__ import annotations

import torch
from torch import Tensor

from restore_dit.config import DiffusionConfig
from restore_dit.diffusion.samplers import sampling_times
from restore_dit.diffusion.schedule import NoiseSchedule

QUANTILE_MARGIN = 1e-6
"""Keeps the normal quantile function finite at 0 and 1."""


def training_steps(quantile: Tensor, schedule: NoiseSchedule, config: DiffusionConfig) -> Tensor:
    """Steps int64 [B] for quantiles [B] in [0, 1): a `sampled_share` of the examples takes the steps that the
    configured sampler visits, all equally often; the others are distributed over 0 … steps − 1 according to
    `timestep_sampling`.

    A one-step sampler only ever shows pure noise to the network, which training would otherwise show too rarely.
    """
    times = torch.tensor(sampling_times(schedule, config.sampling_steps), device=quantile.device)
    share = config.sampled_share
    visited = times[_index(quantile / max(share, 1e-9), len(times))]
    rest = (quantile - share) / max(1 - share, 1e-9)
    if config.timestep_sampling == "logit_normal":
        rest = _logit_normal(rest, config)
    return torch.where(quantile < share, visited, _index(rest, len(schedule)))


def _logit_normal(quantile: Tensor, config: DiffusionConfig) -> Tensor:
    """Positions in (0, 1) whose logit is normal (Esser et al. 2024, equation 19), by inverting the distribution
    function."""
    inner = quantile.clamp(QUANTILE_MARGIN, 1 - QUANTILE_MARGIN)
    return torch.sigmoid(config.logit_mean + config.logit_std * torch.special.ndtri(inner))


def _index(quantile: Tensor, count: int) -> Tensor:
    return (quantile * count).long().clamp(0, count - 1)

"""Which steps of the noise schedule training sees."""

from __future__ import annotations

import torch
from torch import Tensor

from restore_dit.config import DiffusionConfig
from restore_dit.diffusion.samplers import sampling_times
from restore_dit.diffusion.schedule import NoiseSchedule

QUANTILE_MARGIN = 1e-6
"""Keeps the normal quantile of 0 finite."""


def training_steps(quantile: Tensor, schedule: NoiseSchedule, config: DiffusionConfig) -> Tensor:
    """Steps as int64 [B] from quantiles [B] in [0, 1): distributed over 0 … steps − 1 as `timestep_sampling` says, but
    for `sampled_share` of the examples, which take one of the steps that the configured sampler visits, each as often.

    A sampler of one step only ever asks the network about pure noise, which training shows it too seldom otherwise.
    """
    times = torch.tensor(sampling_times(schedule, config.sampling_steps), device=quantile.device)
    share = config.sampled_share
    visited = times[_index(quantile / max(share, 1e-9), len(times))]
    rest = (quantile - share) / max(1 - share, 1e-9)
    if config.timestep_sampling == "logit_normal":
        rest = _logit_normal(rest, config)
    return torch.where(quantile < share, visited, _index(rest, len(schedule)))


def _logit_normal(quantile: Tensor, config: DiffusionConfig) -> Tensor:
    """Places in (0, 1) whose logit is normal (Esser et al. 2024, equation 19), by the inverse of the distribution."""
    inner = quantile.clamp(QUANTILE_MARGIN, 1 - QUANTILE_MARGIN)
    return torch.sigmoid(config.logit_mean + config.logit_std * torch.special.ndtri(inner))


def _index(quantile: Tensor, count: int) -> Tensor:
    return (quantile * count).long().clamp(0, count - 1)

"""Which steps of the noise schedule training sees."""

from __future__ import annotations

import torch
from torch import Tensor

from restore_dit.config import DiffusionConfig
from restore_dit.diffusion.samplers import sampling_times
from restore_dit.diffusion.schedule import NoiseSchedule


def training_steps(quantile: Tensor, schedule: NoiseSchedule, config: DiffusionConfig) -> Tensor:
    """Steps as int64 [B] from quantiles [B] in [0, 1): uniform over 0 … steps − 1, but for `sampled_share` of the
    examples, which take one of the steps that the configured sampler visits, each as often.

    A sampler of one step only ever asks the network about pure noise, which uniform training shows it too seldom.
    """
    times = torch.tensor(sampling_times(schedule, config.sampling_steps), device=quantile.device)
    share = config.sampled_share
    visited = times[_index(quantile / max(share, 1e-9), len(times))]
    uniform = _index((quantile - share) / max(1 - share, 1e-9), len(schedule))
    return torch.where(quantile < share, visited, uniform)


def _index(quantile: Tensor, count: int) -> Tensor:
    return (quantile * count).long().clamp(0, count - 1)

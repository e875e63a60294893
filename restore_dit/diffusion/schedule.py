"""Noise schedules: the amounts of clean series and noise at each step of the forward process, and the steps at which
training examples are noised."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from restore_dit.config import DiffusionConfig

MAX_BETA = 0.999
"""Maximum variance of a step of the cosine schedule (Nichol & Dhariwal 2021)."""

SIGMOID_REACH = 6.0
"""The sigmoid schedule is evaluated at evenly spaced points between ± this value."""


def linear_betas(config: DiffusionConfig) -> Tensor:
    """Variances increasing linearly from `beta_start` to `beta_end` (Ho et al. 2020), [steps] float32."""
    return torch.linspace(config.beta_start, config.beta_end, config.steps, dtype=torch.float32)


def scaled_linear_betas(config: DiffusionConfig) -> Tensor:
    """Variances whose square roots increase linearly from that of `beta_start` to that of `beta_end` (Rombach et al.
    2022), [steps] float32."""
    return torch.linspace(config.beta_start**0.5, config.beta_end**0.5, config.steps, dtype=torch.float32) ** 2


def cosine_betas(config: DiffusionConfig) -> Tensor:
    """Variances for which ᾱ follows a squared cosine (Nichol & Dhariwal 2021, equation 17), [steps] float32."""

    def kept(share: float) -> float:
        return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    ratios = [kept((step + 1) / config.steps) / kept(step / config.steps) for step in range(config.steps)]
    return torch.tensor([min(1 - ratio, MAX_BETA) for ratio in ratios], dtype=torch.float32)


def sigmoid_betas(config: DiffusionConfig) -> Tensor:
    """Variances increasing from `beta_start` to `beta_end` along a sigmoid (Xu et al. 2022, GeoDiff), [steps]
    float32."""
    rise = torch.sigmoid(torch.linspace(-SIGMOID_REACH, SIGMOID_REACH, config.steps, dtype=torch.float32))
    return rise * (config.beta_end - config.beta_start) + config.beta_start


BETAS: dict[str, Callable[[DiffusionConfig], Tensor]] = {
    "linear": linear_betas,
    "scaled_linear": scaled_linear_betas,
    "cosine": cosine_betas,
    "sigmoid": sigmoid_betas,
}
"""Functions that return the variances of the steps, by `DiffusionConfig.schedule`."""


def with_zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """ᾱ shifted and scaled so that the last step contains no clean signal and the first stays unchanged (Lin et al.
    2024, algorithm 1)."""
    roots = alphas_cumprod.sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    return ((roots - last) * (first / (first - last))) ** 2


def on_device(table: Tensor, like: Tensor) -> Tensor:
    """A small table on the device of another tensor. The host does not wait for a GPU, which would end its run
    ahead."""
    return table.to(like.device, non_blocking=True)


@dataclass(frozen=True)
class NoiseSchedule:
    """x_t = signal_t·x_0 + noise_t·ε. Both are [steps] float64; `signal` decreases to or near 0, `noise` increases to
    or near 1.

    Variance preserving (signal² + noise² = 1), or the straight path of rectified flow (signal + noise = 1).
    """

    signal: Tensor
    noise: Tensor

    @classmethod
    def from_config(cls, config: DiffusionConfig) -> NoiseSchedule:
        """The schedule that the configuration specifies."""
        if config.schedule == "straight":
            # The last step is pure noise. No step is the clean series itself: there would be nothing to predict.
            noise = torch.arange(1, config.steps + 1, dtype=torch.float64) / config.steps
            return cls(1 - noise, noise)
        # In float32, as published: in float64, the product of a thousand factors differs in its last digits.
        kept = torch.cumprod(1.0 - BETAS[config.schedule](config), dim=0)
        if config.zero_terminal_snr:
            kept = with_zero_terminal_snr(kept)
        return cls(kept.double().sqrt(), (1 - kept.double()).sqrt())

    def __len__(self) -> int:
        return len(self.signal)

    @property
    def alphas_cumprod(self) -> Tensor:
        """ᾱ_t, the share of the clean signal's variance at step t, [steps] float32."""
        return self.signal.square().float()

    @property
    def signal_to_noise(self) -> Tensor:
        """signal² / noise² at each step, [steps] float64."""
        return (self.signal / self.noise).square()

    def at(self, step: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """(signal, noise) at integer steps [B], as factors of a [B, …] tensor."""
        shape = (-1, *[1] * (like.dim() - 1))
        signal, noise = on_device(self.signal, like)[step], on_device(self.noise, like)[step]
        return signal.view(shape).to(like.dtype), noise.view(shape).to(like.dtype)

    def levels(self, step: Tensor) -> Tensor:
        """Signal and noise at integer steps [B], as [B, 2] float32."""
        return on_device(torch.stack([self.signal, self.noise], dim=1).float(), step)[step]

    def add_noise(self, clean: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        """x_t for [B, …] tensors and integer steps [B]."""
        signal, of_noise = self.at(step, clean)
        return signal * clean + of_noise * noise


QUANTILE_MARGIN = 1e-6
"""Keeps the normal quantile function finite at 0 and 1."""


def sampling_times(schedule: NoiseSchedule, steps: int) -> list[int]:
    """The schedule's steps that a sampler with `steps` steps visits, in descending order, without repeats and without
    0."""
    times = np.linspace(0, len(schedule) - 1, steps + 1).round().astype(int)
    return [int(time) for time in np.unique(times)[:0:-1]]


def training_steps(quantile: Tensor, schedule: NoiseSchedule, config: DiffusionConfig) -> Tensor:
    """Steps int64 [B] for quantiles [B] in [0, 1): a `sampled_share` of the examples takes the steps that the
    configured sampler visits, all equally often; the others are distributed over 0 … steps − 1 according to
    `timestep_sampling`.

    A one-step sampler only ever shows pure noise to the network, which training would otherwise show too rarely.
    """
    times = on_device(torch.tensor(sampling_times(schedule, config.sampling_steps)), quantile)
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

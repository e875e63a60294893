"""What the network predicts, the clean series, the noise or a mixture of both, and the loss weights of the steps that
follow from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from restore_dit.config import DiffusionConfig
from restore_dit.diffusion.schedule import NoiseSchedule, on_device

Weights = tuple[Tensor, Tensor]
"""Weights of the noise and of the clean series at each step."""


def _clean(schedule: NoiseSchedule) -> Weights:
    return torch.zeros_like(schedule.signal), torch.ones_like(schedule.signal)


def _noise(schedule: NoiseSchedule) -> Weights:
    return torch.ones_like(schedule.signal), torch.zeros_like(schedule.signal)


def _velocity(schedule: NoiseSchedule) -> Weights:
    return schedule.signal, -schedule.noise


def _flow(schedule: NoiseSchedule) -> Weights:
    return torch.ones_like(schedule.signal), -torch.ones_like(schedule.signal)


WEIGHTS: dict[str, Callable[[NoiseSchedule], Weights]] = {
    "x0": _clean,
    "epsilon": _noise,
    "v": _velocity,
    "flow": _flow,
}
"""Target weights by `DiffusionConfig.prediction`: x_0; ε (Ho et al. 2020); v = signal·ε − noise·x_0 (Salimans & Ho
2022); the velocity ε − x_0 of the straight path from x_0 to ε (Liu et al. 2023; Lipman et al. 2023)."""

RANGE = 1.0
"""The clean series lies within ± this value on the network's scale."""

CLOSE = 0.1
"""Typical deviation of the interpolation between dates from the series, on the network's scale; corresponds to a PSNR
of 26 dB on the published scale."""

WIDE = 0.5
"""Typical deviation of the series from 0."""


@dataclass(frozen=True)
class Prediction:
    """The network's target is of_noise_t·ε + of_clean_t·x_0, with weights [steps] float64 along `schedule`."""

    schedule: NoiseSchedule
    of_noise: Tensor
    of_clean: Tensor

    @classmethod
    def from_config(cls, config: DiffusionConfig) -> Prediction:
        """The prediction and schedule that the configuration specifies."""
        schedule = NoiseSchedule.from_config(config)
        return cls(schedule, *WEIGHTS[config.prediction](schedule))

    @property
    def is_clean(self) -> bool:
        """Whether the target is the clean series itself."""
        return not bool(self.of_noise.any())

    def target(self, clean: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        """The network's target at integer steps [B], like `clean` [B, …]."""
        return self._at(self.of_noise, step, clean) * noise + self._at(self.of_clean, step, clean) * clean

    def clean(self, output: Tensor, state: Tensor, step: Tensor) -> Tensor:
        """The estimate of x_0 from the network's output for the state x_t.

        For targets other than x_0 the estimate is clamped to the network's scale: where little signal is left, a small
        error in the predicted noise is a large one in the series.
        """
        if self.is_clean:
            return output
        estimate = self._at(self.of_state, step, state) * state + self._at(self.of_output, step, state) * output
        return estimate.clamp(-RANGE, RANGE)

    @property
    def of_state(self) -> Tensor:
        """Weights [steps] in x_0 = of_state·x_t + of_output·target, from solving both equations in ε and x_0 for
        x_0."""
        return -self.of_noise / self._determinant

    @property
    def of_output(self) -> Tensor:
        """See `of_state`; also the factor from an error of the output to the error of x_0."""
        return self.schedule.noise / self._determinant

    @property
    def _determinant(self) -> Tensor:
        return self.schedule.noise * self.of_clean - self.schedule.signal * self.of_noise

    def prior_weights(self, step: Tensor) -> Tensor | None:
        """Weights that combine x_t, a series a near x_0, and the network's output into the target: [B, 2, 3] float32,
        first for a = the interpolation between dates, then for a = 0. None if x_0 is predicted, where the target is
        simply the output plus a.

        With x_0 = a + r, r of variance s² (`CLOSE`, `WIDE`), d = x_t − signal·a and D = signal²·s² + noise², least
        squares gives ε ≈ noise·d/D and x_0 ≈ a + signal·s²·d/D: the part of the target that needs no learning. An
        untrained network with zero output therefore fills gaps with a, whatever it predicts. The remainder of the
        target has the standard deviation s·|noise·of_clean − signal·of_noise|/√D. The output is scaled so that its own
        is s at every step, following Karras et al. (2022): without scaling, an error in the noise would be noise/signal
        times as large in the series, 157 times at the end of the linear schedule.
        """
        if self.is_clean:
            return None
        signal, noise = self.schedule.signal, self.schedule.noise
        rows = []
        for s in (CLOSE, WIDE):
            spread = signal.square() * s**2 + noise.square()
            of_state = (self.of_noise * noise + self.of_clean * signal * s**2) / spread
            of_near = self.of_clean - signal * of_state
            rows.append(torch.stack([of_state, of_near, self._determinant / spread.sqrt()], dim=1))
        weights = torch.stack(rows, dim=1)
        return on_device(weights, step)[step].float()

    @staticmethod
    def _at(values: Tensor, step: Tensor, like: Tensor) -> Tensor:
        return on_device(values, like)[step].view(-1, *[1] * (like.dim() - 1)).to(like.dtype)


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

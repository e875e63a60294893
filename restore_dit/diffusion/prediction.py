"""What the network predicts: the clean series, the noise, or a mixture of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from restore_dit.config import DiffusionConfig
from restore_dit.diffusion.schedule import NoiseSchedule

Weights = tuple[Tensor, Tensor]
"""(of the noise, of the clean series) at each step."""


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
"""By `DiffusionConfig.prediction`: x_0; ε (Ho et al. 2020); v = signal·ε − noise·x_0 (Salimans & Ho 2022); the velocity
ε − x_0 of the straight line from x_0 to ε (Liu et al. 2023; Lipman et al. 2023)."""

RANGE = 1.0
"""The clean series lies within ± this much on the network's scale."""

CLOSE = 0.1
"""How far the interpolation between dates usually is from the series, on the network's scale: 26 dB of PSNR on the
published one."""

WIDE = 0.5
"""How far 0 usually is from the series."""


@dataclass(frozen=True)
class Prediction:
    """The target of the network is of_noise_t·ε + of_clean_t·x_0, [steps] float64 each, along `schedule`."""

    schedule: NoiseSchedule
    of_noise: Tensor
    of_clean: Tensor

    @classmethod
    def from_config(cls, config: DiffusionConfig) -> Prediction:
        """The one that a configuration names, along the schedule that it names."""
        schedule = NoiseSchedule.from_config(config)
        return cls(schedule, *WEIGHTS[config.prediction](schedule))

    @property
    def is_clean(self) -> bool:
        """Whether it is the clean series itself."""
        return not bool(self.of_noise.any())

    def target(self, clean: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        """What the network is to say at integer steps [B], like `clean` [B, …]."""
        return self._at(self.of_noise, step, clean) * noise + self._at(self.of_clean, step, clean) * clean

    def clean(self, output: Tensor, state: Tensor, step: Tensor) -> Tensor:
        """The estimate of x_0 that an output means for the state x_t that it was made of.

        That of a network which predicts anything but x_0 is kept within the network's scale: where little signal is
        left, a small error of the noise would be a large one of the series.
        """
        if self.is_clean:
            return output
        estimate = self._at(self.of_state, step, state) * state + self._at(self.of_output, step, state) * output
        return estimate.clamp(-RANGE, RANGE)

    @property
    def of_state(self) -> Tensor:
        """x_0 = of_state·x_t + of_output·target, [steps]: both equations in ε and x_0, solved for x_0."""
        return -self.of_noise / self._determinant

    @property
    def of_output(self) -> Tensor:
        """See `of_state`; also by how much an error of the output is one of x_0."""
        return self.schedule.noise / self._determinant

    @property
    def _determinant(self) -> Tensor:
        return self.schedule.noise * self.of_clean - self.schedule.signal * self.of_noise

    def prior_weights(self, step: Tensor) -> Tensor | None:
        """How to make the target of x_t, of a series a that is near x_0, and of the network's output: what each is
        multiplied by, [B, 2, 3] float32; first where a is the interpolation between dates, then where it is 0. None:
        the target is the output plus a, as is right for x_0.

        With x_0 = a + r, r of variance s² (`CLOSE`, `WIDE`), d = x_t − signal·a and D = signal²·s² + noise², least
        squares says ε ≈ noise·d/D and x_0 ≈ a + signal·s²·d/D: the part of the target that needs no learning. So a
        network that says nothing yet fills gaps with a, whatever it is to predict. What is left of the target has the
        deviation s·|noise·of_clean − signal·of_noise|/√D. The output is scaled so that its own is s at every step, as
        Karras et al. (2022) do: unscaled, an error of the noise would be one of the series that is noise/signal times
        as large, 157 times at the end of the linear schedule.
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
        return weights.to(step.device)[step].float()

    @staticmethod
    def _at(values: Tensor, step: Tensor, like: Tensor) -> Tensor:
        return values.to(like.device)[step].view(-1, *[1] * (like.dim() - 1)).to(like.dtype)

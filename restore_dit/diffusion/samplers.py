"""Samplers: fill the gaps of a series, starting from noise, consistently with the observed pixels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from restore_dit.diffusion.objective import DenoisingFunction
from restore_dit.diffusion.prediction import Prediction
from restore_dit.diffusion.schedule import NoiseSchedule, sampling_times
from restore_dit.model.conditioning import Conditioning

OnStep = Callable[[int, int, Tensor], None]
"""Called after each step with (index from 0, number of steps, current estimate of the clean series)."""


@dataclass(frozen=True)
class Update:
    """One solver step: z ← of_state·z + of_estimate·x̂_0 + of_previous·(x̂_0 of the step before)."""

    of_state: float
    of_estimate: float
    of_previous: float


LAST = Update(0.0, 1.0, 0.0)
"""The final step, to σ = 0."""


def dpm_solver_pp(schedule: NoiseSchedule, times: Sequence[int]) -> list[Update]:
    """DPM-Solver++ of second order, multistep, midpoint (Lu et al. 2022, algorithm 2), for estimates of x_0. The first
    step is of first order, as is the second if the first started from pure noise; the last goes to σ = 0, where x_0 is
    the estimate itself.

    With α the signal, σ the noise, λ = ln(α/σ), h = λ_next − λ and r = h_before / h:
    z_next = (σ_next/σ)·z − α_next·(e^(−h) − 1)·(x̂ + (x̂ − x̂_before) / 2r).
    """
    alpha, sigma = _along(schedule, times)
    # Pure noise contains no signal: its log ratio is −∞, and the first update is the limit for an infinite stride.
    log_ratio = [math.log(a / s) if a else -math.inf for a, s in zip(alpha, sigma, strict=True)]
    updates = []
    for index in range(len(times) - 1):
        stride = log_ratio[index + 1] - log_ratio[index]
        weight = -alpha[index + 1] * math.expm1(-stride)
        lean = 0.0 if index == 0 else 0.5 * stride / (log_ratio[index] - log_ratio[index - 1])
        updates.append(Update(sigma[index + 1] / sigma[index], weight * (1 + lean), -weight * lean))
    return [*updates, LAST]


def ddim(schedule: NoiseSchedule, times: Sequence[int]) -> list[Update]:
    """DDIM without added noise (Song et al. 2021, equation 12 with σ = 0): z_next = α_next·x̂ + σ_next·ε̂, where ε̂ =
    (z − α·x̂)/σ is the noise in z implied by x̂. First order."""
    alpha, sigma = _along(schedule, times)
    updates = []
    for index in range(len(times) - 1):
        kept = sigma[index + 1] / sigma[index]
        updates.append(Update(kept, alpha[index + 1] - kept * alpha[index], 0.0))
    return [*updates, LAST]


def euler(schedule: NoiseSchedule, times: Sequence[int]) -> list[Update]:
    """Euler's method along the straight path of rectified flow: z_next = z + (t_next − t)·û, where û = (z − x̂)/t is
    the velocity and t the noise level."""
    _, time = _along(schedule, times)
    shares = [after / before for before, after in itertools.pairwise(time)]
    return [*(Update(share, 1 - share, 0.0) for share in shares), LAST]


def _along(schedule: NoiseSchedule, times: Sequence[int]) -> tuple[list[float], list[float]]:
    """Signal and noise at the given times."""
    chosen = list(times)
    return schedule.signal[chosen].tolist(), schedule.noise[chosen].tolist()


SAMPLERS: dict[str, Callable[[NoiseSchedule, Sequence[int]], list[Update]]] = {
    "dpm_solver_pp": dpm_solver_pp,
    "ddim": ddim,
    "euler": euler,
}
"""Solvers by `DiffusionConfig.sampler`: (schedule, times) → the updates of a run over these times."""


def sample_inpainting(
    denoiser: DenoisingFunction,
    noise: Tensor,
    conditioning: Conditioning,
    prediction: Prediction,
    steps: int,
    on_step: OnStep | None = None,
    *,
    sampler: str = "dpm_solver_pp",
) -> Tensor:
    """The series with its gaps filled, [B, T, C, H, W] on the network's scale [-1, 1] (not clamped).

    `noise` is standard normal with the same shape. The conditioning's `observed` and `gap_mask` define the visible
    pixels, which are returned exactly as they went in. After every step they are noised with the initial noise to the
    level of the next step, as in the published sampler; the network always sees them clean.

    Raises:
        ValueError: the conditioning lacks `observed` or `gap_mask`.
    """
    if conditioning.observed is None or conditioning.gap_mask is None:
        raise ValueError("inpainting needs conditioning.observed and conditioning.gap_mask")
    missing, schedule = conditioning.gap_mask, prediction.schedule
    image = torch.where(missing, 0, conditioning.observed)
    times = sampling_times(schedule, steps)
    updates = SAMPLERS[sampler](schedule, times)
    state, previous = noise, noise
    with torch.no_grad():
        for index, (time, update) in enumerate(zip(times, updates, strict=True)):
            step = torch.full((len(noise),), time, device=noise.device)
            step_conditioning = replace(
                conditioning, prior_weights=prediction.prior_weights(step), levels=schedule.levels(step)
            )
            output = denoiser(torch.where(missing, state, image), step, step_conditioning)
            estimate = prediction.clean(output, state, step)
            state = update.of_state * state + update.of_estimate * estimate
            if update.of_previous:
                state = state + update.of_previous * previous
            if index + 1 < len(times):
                next_step = torch.full_like(step, times[index + 1])
                state = torch.where(missing, state, schedule.add_noise(image, noise, next_step))
            else:
                state = torch.where(missing, state, image)
            previous = estimate
            if on_step is not None:
                on_step(index, len(times), torch.where(missing, estimate, image))
    return state


def to_published_scale(series: Tensor, brightest: float = 1.0) -> Tensor:
    """From the network's scale to the published one: z/2 + 0.5, clipped to [0, brightest]."""
    return (series / 2 + 0.5).clamp(0, brightest)

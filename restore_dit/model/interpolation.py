"""Gap filling by interpolation in time, of every pixel from the *other* dates on which it was observed.

Linear interpolation is the anchor of the denoiser with patches, ordinary kriging the prior of the pixel network, and
both are baselines of every evaluation. With an exponential covariance, the process is Markov and its precision matrix
tridiagonal. One forward and one backward pass over the dates therefore solve all pixels at once, whatever their
patterns of gaps, whereas a dense solver would need one inverse per pattern.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def interpolate_from_other_dates(values: Tensor, observed: Tensor, dates: Tensor) -> Tensor:
    """Linear interpolation in time of every pixel from the *other* dates on which it was observed.

    values: [B, T, C, H, W], ascending in time; values that are not observed are never read.
    observed: [B, T, 1, H, W] bool.
    dates: [B, T] days, ascending among observed frames; equal dates may occur.

    In a gap this is ordinary linear interpolation. An observed pixel is predicted from its other dates, so that the
    difference shows how this date departs from its neighbours. Before the first and after the last observation, the
    nearest value is used. A pixel without any other observation gets the mean of the frame's observed pixels,
    interpolated in the same way if the whole frame is missing. A series without observations is 0.
    """
    values = torch.where(observed, values, 0)
    filled, found = _between(values, observed, dates, others_only=True)
    count = observed.sum(dim=(3, 4), keepdim=True)
    frame_mean = values.sum(dim=(3, 4), keepdim=True) / count.clamp(min=1)
    fallback, _ = _between(frame_mean, count > 0, dates, others_only=False)
    return torch.where(found, filled, fallback)


def interpolate_gaps(values: Tensor, observed: Tensor, dates: Tensor) -> Tensor:
    """The series with its gaps interpolated in time; observed pixels are returned unchanged. Arguments as in
    `interpolate_from_other_dates`."""
    return torch.where(observed, values, interpolate_from_other_dates(values, observed, dates))


def _between(values: Tensor, observed: Tensor, dates: Tensor, *, others_only: bool) -> tuple[Tensor, Tensor]:
    """The interpolation, 0 where no observation is available, and a mask of where one is."""
    frames = values.shape[1]
    index = torch.arange(frames, device=values.device).view(1, frames, 1, 1, 1)
    earlier = torch.where(observed, index, -1).cummax(dim=1).values
    later = torch.where(observed, index, frames).flip(1).cummin(dim=1).values.flip(1)
    if others_only:
        earlier = torch.cat([torch.full_like(earlier[:, :1], -1), earlier[:, :-1]], dim=1)
        later = torch.cat([later[:, 1:], torch.full_like(later[:, :1], frames)], dim=1)
    found = (earlier >= 0) | (later < frames)
    before = torch.where(earlier < 0, later, earlier).clamp(max=frames - 1)
    after = torch.where(later == frames, earlier, later).clamp(min=0)

    days = dates.to(values.dtype).view(*dates.shape, 1, 1, 1).expand_as(observed)
    start, end = days.gather(1, before), days.gather(1, after)
    share = ((days - start) / (end - start).clamp(min=torch.finfo(values.dtype).tiny)).clamp(0, 1)
    first, last = values.gather(1, before.expand_as(values)), values.gather(1, after.expand_as(values))
    return torch.where(found, torch.lerp(first, last, share), 0), found


MEMORY_DAYS = 60.0
"""Days after which the temporal correlation of the ground has fallen to 1/e."""

NUGGET = 0.1
"""Variance of effects specific to a date (haze, view angle, noise), relative to the variance of the ground."""

SMOOTH_MEMORY_DAYS, SMOOTH_NUGGET = 200.0, 0.5
"""The same for series whose dates scatter more than their pixels change: with dates five days apart, about six are
averaged, instead of two with the values above."""

MIN_DAYS = 0.25
"""Minimum days between neighbouring dates: equal dates would make the precision infinite."""

_FARTHEST = 1e4
"""Variance, relative to that of the ground, where nothing is known."""


@dataclass(frozen=True)
class Kriged:
    """The result of `krige`.

    mean: [B, T, C, H, W] prediction of each value from the other dates.
    variance: [B, T, 1, H, W] of an observation around this mean, relative to the variance of the ground; 1 + `NUGGET`
        or more if no observation is near.
    found: [B, T, 1, H, W] bool, true where there is any other observation; elsewhere the mean is 0.
    """

    mean: Tensor
    variance: Tensor
    found: Tensor


def krige(
    values: Tensor, observed: Tensor, dates: Tensor, *, memory: float = MEMORY_DAYS, nugget: float = NUGGET
) -> Kriged:
    """Ordinary kriging with an unknown constant mean; each observed value is predicted with itself left out.

    values: [B, T, C, H, W]; values that are not observed are never read. observed: [B, T, 1, H, W] bool. dates: [B, T]
    days, ascending among observed frames. memory: correlation time in days. nugget: see `NUGGET`.

    The model is y = m + z + e, with unknown m, z of covariance exp(−|Δ|/memory) and e of variance nugget. P, the
    posterior precision of z given the observations, is tridiagonal, and D is the diagonal matrix of the observations'
    precisions. The generalised least-squares estimate of m and the conditional mean and variance of z follow from
    P⁻¹Dy, P⁻¹D1 and the diagonal of P⁻¹ (Rasmussen & Williams 2006, sections 2.7 and 5.4.2).
    """
    batch, frames, _, height, width = values.shape
    dtype = values.dtype
    weight = observed.to(dtype).flatten(3).squeeze(2) / nugget  # [B, T, P]
    right = torch.where(observed, values, 0).flatten(3) / nugget  # [B, T, C, P]
    right = torch.cat([right, weight[:, :, None]], dim=2)

    gap = dates.to(dtype).diff(dim=1).abs().clamp(min=MIN_DAYS)
    kept = torch.exp(-gap / memory)  # correlation of neighbours [B, T-1]
    # expm1 keeps the digits that 1 − exp(…) would lose where dates lie close together.
    innovation = -torch.expm1(-2 * gap / memory)
    diagonal = torch.ones(batch, frames, dtype=dtype, device=values.device)
    diagonal[:, 1:] = 1 / innovation
    diagonal[:, :-1] += kept.square() / innovation
    coupling = kept / innovation  # minus the off-diagonal

    solution, inverse = _solve(diagonal[..., None] + weight, coupling, right)
    drift = solution[:, :, -1]  # P⁻¹ D 1 [B, T, P]
    information = (weight * (1 - drift)).sum(dim=1, keepdim=True)  # of the mean [B, 1, P]
    # Without any observation the information is 0 up to rounding, and dividing by it would yield noise, not a value.
    known = information > 1e-6
    safe = torch.where(known, information, 1)
    residue = (right[:, :, :-1] - weight[:, :, None] * solution[:, :, :-1]).sum(dim=1, keepdim=True)
    mean = residue / safe[:, :, None]  # of each band [B, 1, C, P]
    smooth = solution[:, :, :-1] + mean * (1 - drift)[:, :, None]
    variance = inverse + (1 - drift).square() / safe
    variance = torch.where(known, variance, _FARTHEST)

    # Leave out each observed value again: precisions, and means weighted by precision, can be subtracted.
    left = (1 / variance - weight).clamp(min=1 / _FARTHEST)
    seen = observed.flatten(3)  # [B, T, 1, P]
    alone = torch.where(seen, (smooth / variance[:, :, None] - right[:, :, :-1]) / left[:, :, None], smooth)
    spread = torch.where(seen.squeeze(2), 1 / left, variance)
    found = known & (spread < _FARTHEST / 2)
    shape = (batch, frames, 1, height, width)
    mean = torch.where(found[:, :, None], alone, 0)
    return Kriged(mean.view(values.shape), (spread + nugget).view(shape), found.view(shape))


def _solve(diagonal: Tensor, coupling: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """P⁻¹·right [B, T, K, P] and the diagonal of P⁻¹ [B, T, P], for tridiagonal matrices with `diagonal` [B, T, P] and
    off-diagonal −`coupling` [B, T−1]."""
    frames = diagonal.shape[1]
    pivot, solution = [diagonal[:, 0]], [right[:, 0]]
    for t in range(1, frames):
        factor = coupling[:, t - 1, None] / pivot[-1]
        pivot.append(diagonal[:, t] - coupling[:, t - 1, None] * factor)
        solution.append(torch.addcmul(right[:, t], factor[:, None], solution[-1]))
    inverse = [1 / pivot[-1]]
    solution[-1] = solution[-1] * inverse[0][:, None]
    for t in range(frames - 2, -1, -1):
        share = coupling[:, t, None] / pivot[t]
        solution[t] = torch.addcmul(solution[t] / pivot[t][:, None], share[:, None], solution[t + 1])
        inverse.append(1 / pivot[t] + share.square() * inverse[-1])
    return torch.stack(solution, dim=1), torch.stack(inverse[::-1], dim=1)

"""Filling gaps by linear interpolation in time: the denoiser's anchor, and the baseline of every evaluation."""

from __future__ import annotations

import torch
from torch import Tensor


def interpolate_gaps(values: Tensor, observed: Tensor, dates: Tensor) -> Tensor:
    """Linear interpolation in time, pixel by pixel.

    values: [B, T, C, H, W], ascending in time; what is not observed is never read.
    observed: [B, T, 1, H, W] bool.
    dates: [B, T] days, ascending among observed frames; equal dates may occur.

    Before the first and after the last observation the nearest value holds. A pixel that is never observed gets the
    mean of its frame's observed pixels, interpolated in the same way where a whole frame is missing; a series without
    any observation is 0. Observed pixels come out exactly as they went in.
    """
    values = torch.where(observed, values, 0)
    filled = _between_observations(values, observed, dates)
    never = ~observed.any(dim=1, keepdim=True)
    count = observed.sum(dim=(3, 4), keepdim=True)
    frame_mean = values.sum(dim=(3, 4), keepdim=True) / count.clamp(min=1)
    fallback = _between_observations(frame_mean, count > 0, dates)
    return torch.where(never, fallback, filled)


def _between_observations(values: Tensor, observed: Tensor, dates: Tensor) -> Tensor:
    """The same with 0 at pixels that are never observed."""
    frames = values.shape[1]
    index = torch.arange(frames, device=values.device).view(1, frames, 1, 1, 1)
    earlier = torch.where(observed, index, -1).cummax(dim=1).values
    later = torch.where(observed, index, frames).flip(1).cummin(dim=1).values.flip(1)
    before = torch.where(earlier < 0, later, earlier).clamp(max=frames - 1)
    after = torch.where(later == frames, earlier, later).clamp(min=0)

    days = dates.to(values.dtype).view(*dates.shape, 1, 1, 1).expand_as(observed)
    start, end = days.gather(1, before), days.gather(1, after)
    share = ((days - start) / (end - start).clamp(min=torch.finfo(values.dtype).tiny)).clamp(0, 1)
    first, last = values.gather(1, before.expand_as(values)), values.gather(1, after.expand_as(values))
    return torch.lerp(first, last, share)

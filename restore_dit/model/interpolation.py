"""Gap filling by linear interpolation in time: the denoiser's anchor, and the baseline of every evaluation."""

from __future__ import annotations

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

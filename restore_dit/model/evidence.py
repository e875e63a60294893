"""What is known of every pixel and date before any learning, as the pixel denoiser is told it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from restore_dit.model.kriging import SMOOTH_MEMORY_DAYS, SMOOTH_NUGGET, krige

YEAR = 365.25
"""Days. Four years are a whole number of them, so that dates moved by 1461 days mean the same."""

_NEAR, _WIDE = 2.0, 6.0  # pixels, standard deviations of the weights by which visible pixels speak for hidden ones
_FRAME_PRIOR, _WIDE_PRIOR, _NEAR_PRIOR = 8.0, 4.0, 2.0  # pixels' worth of evidence that stand against each offset
_MOST_VARIANCE = 2.5  # of the kriged value, in variances of the ground
_NOWHERE = 400.0  # days to a neighbour that does not exist
_RADAR_MEMORY, _RADAR_REACH = 4.0, 13.0  # days
_SPECKLE_WINDOW = 5  # pixels
_LEAST_SQUARE = 1e-5  # on the network's scale: what stands below logarithms of mean squares


@dataclass(frozen=True)
class RadarSeries:
    """Normalised backscatter `values` [B, S, K, H, W], 0 where missing; `dates` [B, S] in days; `track` [B, S], 0 of an
    ascending acquisition, 1 of a descending one; `mask` [B, S], true where an acquisition is real."""

    values: Tensor
    dates: Tensor
    track: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Evidence:
    """Of B series with T frames and C bands on the network's scale, each [B, T, C, H, W] but where said.

    kriged: what the other dates say (`krige`). spread [B, T, 1, H, W]: its standard deviation in that of the ground.
    local_mean: the mean of kriged over 3×3 pixels.
    smooth: what the other dates say where each is little trusted, and more of them count.
    linear, before, after: the line between the neighbouring observations, and these themselves.
    departure: observed less kriged, 0 where hidden.
    frame_offset, wide_offset, near_offset: how far visible pixels depart, those of the whole frame, those around and
        those close by; the first is shrunk towards 0, the others towards the one before.
    wide_weight, near_weight [B, T, 1, H, W]: how many pixels stand behind the last two.
    coverage [B, T, 1, H, W]: the visible share of the frame. observed [B, T, 1, H, W] bool.
    days_before, days_after [B, T, 1, H, W]: to the neighbouring observations.
    radar [B, T, K, H, W]: see `radar_evidence`; K is 0 without.
    habits [B, T, 4·C, H, W], the same everywhere: see `series_habits`.
    """

    kriged: Tensor
    spread: Tensor
    local_mean: Tensor
    smooth: Tensor
    linear: Tensor
    before: Tensor
    after: Tensor
    departure: Tensor
    frame_offset: Tensor
    wide_offset: Tensor
    near_offset: Tensor
    wide_weight: Tensor
    near_weight: Tensor
    coverage: Tensor
    observed: Tensor
    days_before: Tensor
    days_after: Tensor
    radar: Tensor
    habits: Tensor

    def each(self, change: Callable[[Tensor], Tensor]) -> Evidence:
        """The same with every field changed."""
        return Evidence(**{field.name: change(getattr(self, field.name)) for field in fields(self)})


def in_a_row(images: Tensor) -> Tensor:
    """[B, T, C, H, W] as [B, T, C, 1, H·W]."""
    return images.flatten(3)[:, :, :, None]


def pixels_of(images: Tensor, pixels: Tensor) -> Tensor:
    """[B, T, C, H, W] at pixels [B, P], counted row by row, as [B, T, C, 1, P]."""
    flat = images.flatten(3)
    chosen = pixels[:, None, None].expand(-1, *flat.shape[1:3], -1)
    return flat.gather(3, chosen)[:, :, :, None]


def gather_evidence(values: Tensor, observed: Tensor, dates: Tensor, radar: RadarSeries | None) -> Evidence:
    """What a series says of each of its values without that value, and what visible pixels say of hidden ones.

    values: [B, T, C, H, W]; what is not observed is never read. observed: [B, T, 1, H, W] bool, false in frames that
    are padding. dates: [B, T] days, ascending among observed frames.
    """
    values = torch.where(observed, values, 0)
    count = observed.sum(dim=(1, 3, 4), keepdim=True).clamp(min=1)
    band_means = values.sum(dim=(1, 3, 4), keepdim=True) / count
    kriging = krige(values, observed, dates)
    kriged = torch.where(kriging.found, kriging.mean, band_means)
    smoothed = krige(values, observed, dates, memory=SMOOTH_MEMORY_DAYS, nugget=SMOOTH_NUGGET)
    smooth = torch.where(smoothed.found & kriging.found, smoothed.mean, kriged)
    earlier, later = _neighbours(observed)
    before, days_before, has_before = _at(values, dates, earlier)
    after, days_after, has_after = _at(values, dates, later)
    share = days_before / (days_before + days_after).clamp(min=1e-3)
    before = torch.where(has_before, before, torch.where(has_after, after, kriged))
    after = torch.where(has_after, after, before)
    linear = torch.where(has_before & has_after, torch.lerp(before, after, share), before)

    backed = (observed & kriging.found).to(values.dtype)
    departure = torch.where(backed > 0, values - kriged, 0)
    visible = backed.sum(dim=(3, 4), keepdim=True)
    frame_offset = departure.sum(dim=(3, 4), keepdim=True) / (visible + _FRAME_PRIOR)
    wide_weight, near_weight = _spread_out(backed, _WIDE), _spread_out(backed, _NEAR)
    wide_offset = (_spread_out(departure, _WIDE) + _WIDE_PRIOR * frame_offset) / (wide_weight + _WIDE_PRIOR)
    near_offset = (_spread_out(departure, _NEAR) + _NEAR_PRIOR * wide_offset) / (near_weight + _NEAR_PRIOR)
    return Evidence(
        kriged=kriged,
        spread=kriging.variance.clamp(max=_MOST_VARIANCE).sqrt(),
        local_mean=_box_mean(kriged, 3),
        smooth=smooth,
        linear=linear,
        before=before,
        after=after,
        departure=departure,
        frame_offset=frame_offset.expand_as(values),
        wide_offset=wide_offset,
        near_offset=near_offset,
        wide_weight=wide_weight,
        near_weight=near_weight,
        coverage=backed.mean(dim=(3, 4), keepdim=True).expand_as(backed),
        observed=observed,
        days_before=torch.where(has_before, days_before, _NOWHERE),
        days_after=torch.where(has_after, days_after, _NOWHERE),
        radar=values[:, :, :0] if radar is None else radar_evidence(radar, dates, earlier, later),
        habits=series_habits(values, (linear, smooth), departure, backed).expand(
            -1, values.shape[1], -1, *values.shape[3:]
        ),
    )


def series_habits(values: Tensor, others: Sequence[Tensor], departure: Tensor, backed: Tensor) -> Tensor:
    """How this series departs from what its other dates say, band by band: [B, 1, (2 + others)·C, 1, 1], about −2 to 2.

    By how much whole frames do and by how much pixels within a frame do, as logarithms of root mean squares, and how
    the `others`, other ways to interpolate, fare beside kriging, as logarithms of the ratio of theirs. A series whose
    frames agree wants less correction than one that lies in haze now and then. backed [B, T, 1, H, W]: 1 where there is
    a departure.
    """
    visible = backed.sum(dim=(3, 4), keepdim=True)
    number = visible.sum(dim=1, keepdim=True).clamp(min=1)
    common = departure.sum(dim=(3, 4), keepdim=True) / visible.clamp(min=1)
    trust = visible / (visible + _FRAME_PRIOR)
    of_frames = (trust * common.square()).sum(dim=1, keepdim=True) / trust.sum(dim=1, keepdim=True).clamp(min=1e-3)

    def mean_square(errors: Tensor) -> Tensor:
        return (errors.square() * backed).sum(dim=(1, 3, 4), keepdim=True) / number

    def logarithm(square: Tensor) -> Tensor:
        return 0.5 * (square + _LEAST_SQUARE).log()

    ratios = [logarithm(mean_square(values - other)) - logarithm(mean_square(departure)) for other in others]
    levels = [logarithm(square) + 3.5 for square in (of_frames, mean_square(departure - common))]
    return torch.cat([*levels, *ratios], dim=2)


def radar_evidence(radar: RadarSeries, dates: Tensor, earlier: Tensor, later: Tensor) -> Tensor:
    """What the radar says of each optical date: [B, T, 2·(6·K + 1), H, W], the ascending track before the descending.

    Of each track, for K channels: the level of each pixel, by how much it departs from that on the date, how this
    differs from the optical observation `earlier` and from that `later` ([B, T, 1, H, W], indices of frames), the
    departure of the place as a whole and how it differs from the earlier one; then whether the track has an
    acquisition near the date.
    """
    quiet = _box_mean(radar.values, _SPECKLE_WINDOW)
    distance = (dates[:, :, None] - radar.dates[:, None]).abs()
    parts = []
    for track in (0, 1):
        usable = radar.mask & (radar.track == track)
        weight = torch.exp(-distance / _RADAR_MEMORY) * usable[:, None]
        weight = weight / weight.sum(dim=2, keepdim=True).clamp(min=1e-9)
        share = usable / usable.sum(dim=1, keepdim=True).clamp(min=1)
        level = torch.einsum("bs,bskhw->bkhw", share.to(quiet.dtype), quiet)[:, None]
        near = (distance.masked_fill(~usable[:, None], math.inf) < _RADAR_REACH).any(dim=2)[:, :, None, None, None]
        departure = (torch.einsum("bts,bskhw->btkhw", weight.to(quiet.dtype), quiet) - level) * near
        of_place = departure.mean(dim=(3, 4), keepdim=True).expand_as(departure)
        parts += [
            level.expand_as(departure),
            departure,
            _change_since(departure, earlier),
            _change_since(departure, later),
            of_place,
            _change_since(of_place, earlier),
            near.to(quiet.dtype).expand(*departure.shape[:2], 1, *departure.shape[3:]),
        ]
    return torch.cat(parts, dim=2)


def _neighbours(observed: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the observation before and after each frame [B, T, 1, H, W], −1 and T where there is none."""
    frames = observed.shape[1]
    index = torch.arange(frames, device=observed.device).view(1, frames, 1, 1, 1)
    earlier = torch.where(observed, index, -1).cummax(dim=1).values
    later = torch.where(observed, index, frames).flip(1).cummin(dim=1).values.flip(1)
    earlier = torch.cat([torch.full_like(earlier[:, :1], -1), earlier[:, :-1]], dim=1)
    return earlier, torch.cat([later[:, 1:], torch.full_like(later[:, :1], frames)], dim=1)


def _frames_at(values: Tensor, index: Tensor) -> Tensor:
    """Of each pixel the value of the frame that `index` [B, T, 1, H, W] names; of one that does not exist any other."""
    return values.gather(1, index.clamp(0, values.shape[1] - 1).expand_as(values))


def _change_since(values: Tensor, index: Tensor) -> Tensor:
    """By how much values differ from those of the frame that `index` names; 0 where it does not exist."""
    exists = (index >= 0) & (index < values.shape[1])
    return torch.where(exists, values - _frames_at(values, index), 0)


def _at(values: Tensor, dates: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The value of the frames that `index` names, how many days away they are, and whether they exist."""
    days = dates.to(values.dtype)[:, :, None, None, None].expand_as(index)
    return _frames_at(values, index), (_frames_at(days, index) - days).abs(), (index >= 0) & (index < values.shape[1])


def _spread_out(images: Tensor, deviation: float) -> Tensor:
    """Sums over the pixels of [..., H, W] with Gaussian weights of height 1: as products with banded matrices, which
    take a third of a convolution's time."""

    def weights(side: int) -> Tensor:
        place = torch.arange(side, device=images.device, dtype=images.dtype)
        distance = place[:, None] - place
        return torch.where(distance.abs() <= 3 * deviation, torch.exp(-0.5 * (distance / deviation) ** 2), 0)

    height, width = images.shape[-2:]
    return weights(height) @ images @ weights(width)


def _box_mean(images: Tensor, side: int) -> Tensor:
    """Mean over side×side pixels of [B, T, C, H, W], fewer at the edges."""
    flat = functional.avg_pool2d(images.flatten(0, 1), side, stride=1, padding=side // 2, count_include_pad=False)
    return flat.view(images.shape)

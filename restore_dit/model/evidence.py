"""Evidence: classical predictions and statistics for every pixel and date, the inputs of the pixel network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from restore_dit.model.interpolation import SMOOTH_MEMORY_DAYS, SMOOTH_NUGGET, krige

YEAR = 365.25
"""Length of a year in days. Four years are a whole number of days, so shifting dates by 1461 days changes nothing."""

_NEAR, _WIDE = 2.0, 6.0  # pixels; standard deviations of the Gaussian weights of visible pixels around a hidden one
_FRAME_PRIOR, _WIDE_PRIOR, _NEAR_PRIOR = 8.0, 4.0, 2.0  # pixels; strength of the shrinkage of each offset
_MAX_VARIANCE = 2.5  # of the kriged value, relative to the variance of the ground
_NOWHERE = 400.0  # days; stands for the distance to a neighbour that does not exist
_RADAR_MEMORY, _RADAR_REACH = 4.0, 13.0  # days
_SPECKLE_WINDOW = 5  # pixels
_MIN_SQUARE = 1e-5  # on the network's scale; added to mean squares before taking logarithms


@dataclass(frozen=True)
class RadarSeries:
    """Radar series: normalised backscatter `values` [B, S, K, H, W], 0 where missing; `dates` [B, S] in days; `track`
    [B, S], 0 for ascending and 1 for descending acquisitions; `mask` [B, S], true where an acquisition is real."""

    values: Tensor
    dates: Tensor
    track: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Evidence:
    """Evidence of B series with T frames and C bands, on the network's scale, [B, T, C, H, W] unless stated otherwise.

    kriged: prediction from the other dates (`krige`). spread [B, T, 1, H, W]: its standard deviation, relative to that
        of the ground.
    local_mean: mean of kriged over 3×3 pixels.
    smooth: kriging with a larger nugget and longer memory, which averages over more dates.
    linear, before, after: linear interpolation between the neighbouring observations, and these observations.
    departure: observed minus kriged, 0 where hidden.
    frame_offset, wide_offset, near_offset: mean departure of visible pixels in the whole frame, in the wider and in the
        closer surroundings. The first is shrunk towards 0, each of the others towards the previous one.
    wide_weight, near_weight [B, T, 1, H, W]: effective number of pixels behind wide_offset and near_offset.
    coverage [B, T, 1, H, W]: visible share of the frame. observed [B, T, 1, H, W] bool.
    days_before, days_after [B, T, 1, H, W]: days to the neighbouring observations.
    radar [B, T, K, H, W]: see `radar_evidence`; K is 0 without radar.
    departure_statistics [B, T, 4·C, H, W], constant within a series: see the function of that name.
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
    departure_statistics: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Evidence:
        """A copy with `change` applied to every field."""
        return Evidence(**{field.name: change(getattr(self, field.name)) for field in fields(self)})


def in_a_row(images: Tensor) -> Tensor:
    """Reshapes [B, T, C, H, W] to [B, T, C, 1, H·W]."""
    return images.flatten(3)[:, :, :, None]


def pixels_of(images: Tensor, pixels: Tensor) -> Tensor:
    """Selects from [B, T, C, H, W] the pixels [B, P], row-major indices, as [B, T, C, 1, P]."""
    flat = images.flatten(3)
    chosen = pixels[:, None, None].expand(-1, *flat.shape[1:3], -1)
    return flat.gather(3, chosen)[:, :, :, None]


def gather_evidence(values: Tensor, observed: Tensor, dates: Tensor, radar: RadarSeries | None) -> Evidence:
    """Computes the evidence for each value of a series, from its other dates and from the visible pixels of its frame.

    values: [B, T, C, H, W]; values that are not observed are never read. observed: [B, T, 1, H, W] bool, false in
    padding frames. dates: [B, T] days, ascending among observed frames. radar: None without radar.
    """
    values = torch.where(observed, values, 0)
    count = observed.sum(dim=(1, 3, 4), keepdim=True).clamp(min=1)
    band_means = values.sum(dim=(1, 3, 4), keepdim=True) / count
    kriging = krige(values, observed, dates)
    kriged = torch.where(kriging.found, kriging.mean, band_means)
    smoothed = krige(values, observed, dates, memory=SMOOTH_MEMORY_DAYS, nugget=SMOOTH_NUGGET)
    smooth = torch.where(smoothed.found & kriging.found, smoothed.mean, kriged)
    earlier, later = _neighbours(observed)
    before, days_before, has_before = _values_at(values, dates, earlier)
    after, days_after, has_after = _values_at(values, dates, later)
    share = days_before / (days_before + days_after).clamp(min=1e-3)
    before = torch.where(has_before, before, torch.where(has_after, after, kriged))
    after = torch.where(has_after, after, before)
    linear = torch.where(has_before & has_after, torch.lerp(before, after, share), before)

    # A departure from a value that kriging does not know would only measure the mean of the band.
    backed = (observed & kriging.found).to(values.dtype)
    departure = torch.where(backed > 0, values - kriged, 0)
    visible = backed.sum(dim=(3, 4), keepdim=True)
    # A frame with few visible pixels says little about its offset: the prior counts as so many pixels without one.
    frame_offset = departure.sum(dim=(3, 4), keepdim=True) / (visible + _FRAME_PRIOR)
    wide_weight, near_weight = _gaussian_sum(backed, _WIDE), _gaussian_sum(backed, _NEAR)
    wide_offset = (_gaussian_sum(departure, _WIDE) + _WIDE_PRIOR * frame_offset) / (wide_weight + _WIDE_PRIOR)
    near_offset = (_gaussian_sum(departure, _NEAR) + _NEAR_PRIOR * wide_offset) / (near_weight + _NEAR_PRIOR)
    return Evidence(
        kriged=kriged,
        spread=kriging.variance.clamp(max=_MAX_VARIANCE).sqrt(),
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
        departure_statistics=departure_statistics(values, (linear, smooth), departure, backed).expand(
            -1, values.shape[1], -1, *values.shape[3:]
        ),
    )


def departure_statistics(values: Tensor, others: Sequence[Tensor], departure: Tensor, backed: Tensor) -> Tensor:
    """How a series departs from predictions by its other dates, per band: [B, 1, (2 + others)·C, 1, 1], about −2 to 2.

    For each band: the logarithm of the root mean square departure of whole frames; that of pixels within a frame; and,
    for each of the `others`, alternative interpolations, the logarithm of the ratio of its root mean square error to
    that of kriging. A series whose frames agree needs less correction than one with occasional haze. `backed`
    [B, T, 1, H, W] is 1 where there is a departure, otherwise 0.
    """
    visible = backed.sum(dim=(3, 4), keepdim=True)
    number = visible.sum(dim=1, keepdim=True).clamp(min=1)
    common = departure.sum(dim=(3, 4), keepdim=True) / visible.clamp(min=1)
    trust = visible / (visible + _FRAME_PRIOR)
    frame_square = (trust * common.square()).sum(dim=1, keepdim=True) / trust.sum(dim=1, keepdim=True).clamp(min=1e-3)

    def mean_square(errors: Tensor) -> Tensor:
        return (errors.square() * backed).sum(dim=(1, 3, 4), keepdim=True) / number

    def logarithm(square: Tensor) -> Tensor:
        return 0.5 * (square + _MIN_SQUARE).log()

    ratios = [logarithm(mean_square(values - other)) - logarithm(mean_square(departure)) for other in others]
    levels = [logarithm(square) + 3.5 for square in (frame_square, mean_square(departure - common))]
    return torch.cat([*levels, *ratios], dim=2)


def radar_evidence(radar: RadarSeries, dates: Tensor, earlier: Tensor, later: Tensor) -> Tensor:
    """Radar features for each optical date: [B, T, 2·(6·K + 1), H, W], the ascending track before the descending one.

    For each track with K channels: the mean level of each pixel; its departure from that level around the date; the
    change of this departure since the `earlier` and until the `later` optical observation ([B, T, 1, H, W], indices of
    frames); the mean departure of the whole area, and its change since the earlier observation; then one channel that
    is 1 if the track has an acquisition near the date.
    """
    despeckled = _box_mean(radar.values, _SPECKLE_WINDOW)
    distance = (dates[:, :, None] - radar.dates[:, None]).abs()
    parts = []
    for track in (0, 1):
        usable = radar.mask & (radar.track == track)
        weight = torch.exp(-distance / _RADAR_MEMORY) * usable[:, None]
        weight = weight / weight.sum(dim=2, keepdim=True).clamp(min=1e-9)
        share = usable / usable.sum(dim=1, keepdim=True).clamp(min=1)
        level = torch.einsum("bs,bskhw->bkhw", share.to(despeckled.dtype), despeckled)[:, None]
        # Acquisitions further away than a cycle of the orbit (12 days) say nothing about the date itself.
        near = (distance.masked_fill(~usable[:, None], math.inf) < _RADAR_REACH).any(dim=2)[:, :, None, None, None]
        departure = (torch.einsum("bts,bskhw->btkhw", weight.to(despeckled.dtype), despeckled) - level) * near
        area_departure = departure.mean(dim=(3, 4), keepdim=True).expand_as(departure)
        parts += [
            level.expand_as(departure),
            departure,
            _change_since(departure, earlier),
            _change_since(departure, later),
            area_departure,
            _change_since(area_departure, earlier),
            near.to(despeckled.dtype).expand(*departure.shape[:2], 1, *departure.shape[3:]),
        ]
    return torch.cat(parts, dim=2)


def _neighbours(observed: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the observations before and after each frame, [B, T, 1, H, W]; −1 and T where there is none."""
    frames = observed.shape[1]
    index = torch.arange(frames, device=observed.device).view(1, frames, 1, 1, 1)
    earlier = torch.where(observed, index, -1).cummax(dim=1).values
    later = torch.where(observed, index, frames).flip(1).cummin(dim=1).values.flip(1)
    # Shifted by a frame, so that an observed pixel is not its own neighbour.
    earlier = torch.cat([torch.full_like(earlier[:, :1], -1), earlier[:, :-1]], dim=1)
    return earlier, torch.cat([later[:, 1:], torch.full_like(later[:, :1], frames)], dim=1)


def _frames_at(values: Tensor, index: Tensor) -> Tensor:
    """The values at the frames `index` [B, T, 1, H, W]; arbitrary where that frame does not exist."""
    return values.gather(1, index.clamp(0, values.shape[1] - 1).expand_as(values))


def _change_since(values: Tensor, index: Tensor) -> Tensor:
    """The change of the values since the frames `index`; 0 where that frame does not exist."""
    exists = (index >= 0) & (index < values.shape[1])
    return torch.where(exists, values - _frames_at(values, index), 0)


def _values_at(values: Tensor, dates: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The values at the frames `index`, their distance in days, and whether they exist."""
    days = dates.to(values.dtype)[:, :, None, None, None].expand_as(index)
    return _frames_at(values, index), (_frames_at(days, index) - days).abs(), (index >= 0) & (index < values.shape[1])


def _gaussian_sum(images: Tensor, deviation: float) -> Tensor:
    """Sums over the pixels of [..., H, W] with Gaussian weights of height 1. They are computed as products with banded
    matrices, which takes a third of the time of a convolution."""

    def weights(side: int) -> Tensor:
        place = torch.arange(side, device=images.device, dtype=images.dtype)
        distance = place[:, None] - place
        return torch.where(distance.abs() <= 3 * deviation, torch.exp(-0.5 * (distance / deviation) ** 2), 0)

    height, width = images.shape[-2:]
    return weights(height) @ images @ weights(width)


def _box_mean(images: Tensor, side: int) -> Tensor:
    """Moving average of [B, T, C, H, W] over side×side pixels, fewer at the edges."""
    flat = functional.avg_pool2d(images.flatten(0, 1), side, stride=1, padding=side // 2, count_include_pad=False)
    return flat.view(images.shape)

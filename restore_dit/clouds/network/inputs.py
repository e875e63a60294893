"""From a tile's integers to what the network reads, and from the network's grid back to the tile's."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from restore_dit.clouds.reference import clear_reference
from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.data.pixel_size import pixel_sides
from restore_dit.errors import UserError
from restore_dit.series import NO_DATA, REFLECTANCE_SCALE, Georeference, TileSeries

STRIDE = 32
"""The network halves its input five times."""

_SAME_SIZE = 0.02
"""Pixel sizes closer than this share count as equal."""

_MOST_RESAMPLING = 8
"""A tile whose pixels are so many times larger or smaller than the network's shows it nothing that it knows."""


def network_input(
    values: NDArray[np.int16],
    bands: tuple[str, ...],
    config: CloudNetworkConfig,
    reference: NDArray[np.float32] | None = None,
) -> Tensor:
    """What the network reads of a tile's frames: reflectance float32 [T, `config.channels`, H, W], 0 where nothing is
    known.

    Args:
        values: reflectance × 10000 [T, C, H, W], `NO_DATA` where missing.
        bands: names of the C channels.
        config: the network's bands, and whether a tile may lack some.
        reference: with `config.reference` the tile's clear reference at each frame, reflectance [T, C, H, W] in the
            same bands as `values`, NaN where unknown; its bands follow those of the frames.

    Raises:
        UserError: the tile lacks a band and `config.missing_bands` is not set, or it lacks all of them.
    """
    known = known_bands(bands, config)
    if config.reference and reference is None:
        raise ValueError("this network reads a clear reference beside each frame")
    frames, _, height, width = values.shape
    result = torch.zeros(frames, config.channels, height, width)
    for channel, band in enumerate(config.bands):
        if band not in known:
            continue
        stored = torch.from_numpy(values[:, bands.index(band)])
        # a division, as published: a product with 0.0001 rounds otherwise
        result[:, channel] = torch.where(stored == int(NO_DATA), 0.0, stored.float() / REFLECTANCE_SCALE)
        if config.reference and reference is not None:
            clear = torch.from_numpy(reference[:, bands.index(band)])
            result[:, len(config.bands) + channel] = clear.nan_to_num(nan=0.0)
    return result


def known_bands(bands: tuple[str, ...], config: CloudNetworkConfig) -> tuple[str, ...]:
    """The network's bands, in its order, that a tile of these bands has.

    Raises:
        UserError: the tile lacks a band and `config.missing_bands` is not set, or it lacks all of them.
    """
    known = tuple(band for band in config.bands if band in bands)
    lacking = [band for band in config.bands if band not in bands]
    if lacking and not (config.missing_bands and known):
        remedy = (
            "take a network of other bands"
            if config.missing_bands or not known
            else "take a network of other bands, or one trained with missing_bands"
        )
        raise UserError(
            f"the cloud network reads {', '.join(config.bands)}; the tile lacks {', '.join(lacking)} "
            f"(it has {', '.join(bands)}): {remedy}"
        )
    return known


def without_data(values: NDArray[np.int16], bands: tuple[str, ...], config: CloudNetworkConfig) -> NDArray[np.bool_]:
    """Where any band that the network reads, and the tile has, has no data [T, H, W]."""
    channels = [bands.index(band) for band in known_bands(bands, config)]
    return (values[:, channels] == NO_DATA).any(axis=1)


def reference_of(series: TileSeries) -> NDArray[np.float32]:
    """The tile's clear reference at each of its frames, in all of its bands, as `network_input` takes it."""
    values = series.optical.values
    reflectance = values.astype(np.float32) / np.float32(REFLECTANCE_SCALE)
    reflectance[values == NO_DATA] = np.nan
    return clear_reference(reflectance, series.optical.dates, series.optical.bands)


def network_size(
    size: tuple[int, int], georeference: Georeference | None, config: CloudNetworkConfig
) -> tuple[int, int]:
    """(H, W) of a tile on the grid that the network reads: its own, unless the network learned on another pixel size.

    A tile without georeference counts as one of the right pixel size.

    Raises:
        UserError: the pixel sizes are too far apart, or the tile's reference system is unknown.
    """
    if config.pixel_size is None or georeference is None:
        return size
    tall, wide = pixel_sides(georeference, size)
    factors = (tall / config.pixel_size, wide / config.pixel_size)
    for factor in factors:
        if not 1 / _MOST_RESAMPLING <= factor <= _MOST_RESAMPLING:
            raise UserError(
                f"the tile's pixels measure {factor * config.pixel_size:g} m, those that the cloud network learned on "
                f"{config.pixel_size:g} m: take a network of a similar pixel size"
            )
    if all(abs(factor - 1) <= _SAME_SIZE for factor in factors):
        return size
    return max(1, round(size[0] * factors[0])), max(1, round(size[1] * factors[1]))


def resample(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames [N, C, H, W] bilinearly on another grid of the same extent, averaged where that is coarser.

    A zero, which stands for no data, takes no part: its neighbours do not darken, and what lies nearest to it is 0.
    """
    if frames.shape[-2:] == torch.Size(size):
        return frames
    weights = (frames != 0).float()
    known = _interpolate(weights, size)
    return torch.where(known >= 0.5, _interpolate(frames, size) / known.clamp(min=0.5), 0.0)


def resample_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits [N, K, H, W] brought back to the tile's grid of (H, W)."""
    return logits if logits.shape[-2:] == torch.Size(size) else _interpolate(logits, size)


def _interpolate(frames: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(frames, size=size, mode="bilinear", align_corners=False, antialias=True)


def padded_size(size: tuple[int, int], config: CloudNetworkConfig) -> tuple[int, int]:
    """The least multiples of 32 that hold (H, W); with `config.padding` published those above them."""
    more = 0 if config.padding == "least" else 1
    tall, wide = (-(-(length + more) // STRIDE) * STRIDE for length in size)
    return tall, wide


def pad(frames: Tensor, config: CloudNetworkConfig) -> Tensor:
    """Frames [N, C, H, W] reflected on all sides to multiples of 32, as published; the odd pixel goes below and to the
    right. Where a frame is smaller than its padding, the reflection goes back and forth; a single pixel repeats."""
    height, width = frames.shape[-2:]
    tall, wide = padded_size((height, width), config)
    if (tall, wide) == (height, width):
        return frames
    return frames[:, :, _reflected(height, tall)][:, :, :, _reflected(width, wide)]


def crop(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """What `pad` was given: the (H, W) in the middle of [N, K, H', W']."""
    top, left = (frames.shape[-2] - size[0]) // 2, (frames.shape[-1] - size[1]) // 2
    return frames[..., top : top + size[0], left : left + size[1]]


def _reflected(length: int, padded: int) -> Tensor:
    """Which pixel stands where along one padded axis."""
    before = (padded - length) // 2
    return torch.from_numpy(np.pad(np.arange(length), (before, padded - length - before), mode="reflect"))

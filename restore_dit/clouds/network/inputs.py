"""Converts a tile's stored integers to the network's input, and results on the network's grid back to the tile's."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from restore_dit.clouds.reference import clear_reference
from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.data.crs import pixel_sides
from restore_dit.errors import UserError
from restore_dit.series import NO_DATA, REFLECTANCE_SCALE, Georeference, TileSeries

STRIDE = 32
"""Height and width of the network's input must be multiples of this, because it halves them five times."""

_SAME_SIZE = 0.02
"""Pixel sizes that differ by less than this share count as equal."""

_MAX_RESAMPLING = 8
"""Largest factor between the pixel sizes of a tile and of the network; beyond it, the network would see nothing
familiar."""


def network_input(
    values: NDArray[np.int16],
    bands: tuple[str, ...],
    config: CloudNetworkConfig,
    reference: NDArray[np.float32] | None = None,
) -> Tensor:
    """The network's input for a tile's frames: reflectance float32 [T, `config.channels`, H, W], 0 where there are no
    data.

    Args:
        values: reflectance × 10000 [T, C, H, W], `NO_DATA` where missing.
        bands: names of the C channels.
        config: the network's bands, and whether a tile may lack some.
        reference: with `config.reference`, the tile's clear reference at each frame, reflectance [T, C, H, W] in the
            same bands as `values`, NaN where unknown. In the input, its channels follow those of the frames.

    Raises:
        UserError: the tile lacks a band and `config.missing_bands` is not set, or it lacks all of them.
    """
    known = known_bands(bands, config)
    if config.reference and reference is None:
        raise ValueError("this network requires a clear reference for each frame")
    frames, _, height, width = values.shape
    result = torch.zeros(frames, config.channels, height, width)
    for channel, band in enumerate(config.bands):
        if band not in known:
            continue
        stored = torch.from_numpy(values[:, bands.index(band)])
        # a division, as in the published code: multiplying by 0.0001 rounds differently
        result[:, channel] = torch.where(stored == int(NO_DATA), 0.0, stored.float() / REFLECTANCE_SCALE)
        if config.reference and reference is not None:
            clear = torch.from_numpy(reference[:, bands.index(band)])
            result[:, len(config.bands) + channel] = clear.nan_to_num(nan=0.0)
    return result


def known_bands(bands: tuple[str, ...], config: CloudNetworkConfig) -> tuple[str, ...]:
    """The bands of the network that a tile with these bands has, in the network's order.

    Raises:
        UserError: the tile lacks a band and `config.missing_bands` is not set, or it lacks all of them.
    """
    known = tuple(band for band in config.bands if band in bands)
    lacking = [band for band in config.bands if band not in bands]
    if lacking and not (config.missing_bands and known):
        remedy = (
            "use a network for other bands"
            if config.missing_bands or not known
            else "use a network for other bands, or one trained with missing_bands"
        )
        raise UserError(
            f"the cloud network reads {', '.join(config.bands)}; the tile lacks {', '.join(lacking)} "
            f"(it has {', '.join(bands)}): {remedy}"
        )
    return known


def without_data(values: NDArray[np.int16], bands: tuple[str, ...], config: CloudNetworkConfig) -> NDArray[np.bool_]:
    """Mask [T, H, W] of pixels where a band that the network reads and the tile has contains no data."""
    channels = [bands.index(band) for band in known_bands(bands, config)]
    return (values[:, channels] == NO_DATA).any(axis=1)


def reference_of(series: TileSeries) -> NDArray[np.float32]:
    """The tile's clear reference [T, C, H, W] at each frame, in all of its bands, as an argument of `network_input`."""
    values = series.optical.values
    reflectance = values.astype(np.float32) / np.float32(REFLECTANCE_SCALE)
    reflectance[values == NO_DATA] = np.nan
    return clear_reference(reflectance, series.optical.dates, series.optical.bands)


def network_size(
    size: tuple[int, int], georeference: Georeference | None, config: CloudNetworkConfig
) -> tuple[int, int]:
    """(H, W) of a tile on the network's grid: unchanged, unless the network was trained with another pixel size.

    A tile without a georeference is assumed to have the right pixel size.

    Raises:
        UserError: the pixel sizes differ too much, or the tile's coordinate reference system is unknown.
    """
    if config.pixel_size is None or georeference is None:
        return size
    tall, wide = pixel_sides(georeference, size)
    factors = (tall / config.pixel_size, wide / config.pixel_size)
    for factor in factors:
        if not 1 / _MAX_RESAMPLING <= factor <= _MAX_RESAMPLING:
            raise UserError(
                f"the tile has pixels of {factor * config.pixel_size:g} m, but the cloud network was trained on pixels "
                f"of {config.pixel_size:g} m: use a network with a similar pixel size"
            )
    if all(abs(factor - 1) <= _SAME_SIZE for factor in factors):
        return size
    return max(1, round(size[0] * factors[0])), max(1, round(size[1] * factors[1]))


def resample(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames [N, C, H, W] resampled bilinearly to another grid of the same extent, with averaging if it is coarser.

    Zeros stand for no data and are excluded: they do not darken their neighbours, and pixels closest to them become 0.
    """
    if frames.shape[-2:] == torch.Size(size):
        return frames
    weights = (frames != 0).float()
    known = _interpolate(weights, size)
    return torch.where(known >= 0.5, _interpolate(frames, size) / known.clamp(min=0.5), 0.0)


def resample_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits [N, K, H', W'] resampled to the tile's grid of (H, W)."""
    return logits if logits.shape[-2:] == torch.Size(size) else _interpolate(logits, size)


def _interpolate(frames: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(frames, size=size, mode="bilinear", align_corners=False, antialias=True)


def padded_size(size: tuple[int, int], config: CloudNetworkConfig) -> tuple[int, int]:
    """The smallest multiples of 32 not below (H, W) or, if `config.padding` is `published`, larger than (H, W)."""
    more = 0 if config.padding == "least" else 1
    tall, wide = (-(-(length + more) // STRIDE) * STRIDE for length in size)
    return tall, wide


def pad(frames: Tensor, config: CloudNetworkConfig) -> Tensor:
    """Frames [N, C, H, W] padded by reflection on all sides to multiples of 32, as in the published code. An odd pixel
    is added at the bottom or right. If a frame is smaller than its padding, it is reflected repeatedly."""
    height, width = frames.shape[-2:]
    tall, wide = padded_size((height, width), config)
    if (tall, wide) == (height, width):
        return frames
    return frames[:, :, _reflected(height, tall)][:, :, :, _reflected(width, wide)]


def crop(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Reverses `pad`: the central (H, W) of [N, K, H', W']."""
    top, left = (frames.shape[-2] - size[0]) // 2, (frames.shape[-1] - size[1]) // 2
    return frames[..., top : top + size[0], left : left + size[1]]


def _reflected(length: int, padded: int) -> Tensor:
    """Indices of the source pixels along one padded axis."""
    before = (padded - length) // 2
    return torch.from_numpy(np.pad(np.arange(length), (before, padded - length - before), mode="reflect"))

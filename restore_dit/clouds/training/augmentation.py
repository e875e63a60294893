"""Augmentation of examples: symmetries, brightness, noise, and dropping bands or the clear reference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restore_dit.config.cloud_training import CloudAugmentationConfig
from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.data.examples.symmetry import transform

Values = NDArray[np.float32]
Labels = NDArray[np.uint8]

_LEAST = np.float32(1e-4)
"""Minimum reflectance after augmentation, because 0 stands for no data."""

_FEWEST_BANDS = 3
"""Minimum number of bands that an example keeps at random."""


def mirrored(values: Values, labels: Labels, random: np.random.Generator) -> tuple[Values, Labels]:
    """Values [..., S, S] and labels [S, S] under a random one of the eight symmetries of a square."""
    which = int(random.integers(8))
    return transform(values, which), transform(labels, which)


def disturbed(
    values: Values, network: CloudNetworkConfig, config: CloudAugmentationConfig, random: np.random.Generator
) -> Values:
    """A frame and its reference, reflectance [channels, S, S], with simulated changes of illumination and atmospheric
    correction. Only `brightness` also affects the reference. Pixels without data (0) stay 0, and no others become 0."""
    known = values != 0
    bands = len(network.bands)
    gain = np.ones(len(values), np.float32)
    gain[:bands] = np.exp(
        config.band_gain * random.standard_normal(bands) + config.frame_gain * random.standard_normal()
    )
    result = values * (gain * np.exp(config.brightness * random.standard_normal()))[:, None, None].astype(np.float32)
    result[:bands] += np.float32(config.offset * random.standard_normal())
    if config.noise:
        result[:bands] += np.float32(config.noise) * random.standard_normal(result[:bands].shape, np.float32)
    return np.where(known, np.maximum(result, _LEAST), np.float32(0))


def dropped_channels(
    network: CloudNetworkConfig, known: tuple[str, ...], config: CloudAugmentationConfig, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Mask [channels] of the network's channels to drop from an example whose tile has the bands `known`.

    Half of the examples with dropped bands keep one of `config.band_subsets`, as far as the tile has it; the others
    keep at least three random bands. If the tile has no band of the subset, none is dropped.
    """
    kept = {*known}
    if network.missing_bands and random.random() < config.band_dropout:
        if config.band_subsets and random.random() < 0.5:
            subset = {*config.band_subsets[random.integers(len(config.band_subsets))]} & kept
        else:
            count = int(random.integers(min(_FEWEST_BANDS, len(known)), len(known) + 1))
            subset = {*random.permutation(list(known))[:count]}
        kept = subset or kept
    lacking = np.array([band not in kept for band in network.bands])
    if not network.reference:
        return lacking
    return np.concatenate([lacking, lacking | (random.random() < config.reference_dropout)])

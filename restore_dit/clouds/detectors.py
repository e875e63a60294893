"""Cloud and shadow detectors: their common interface, and the rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from restore_dit.clouds.rule import require_rule_bands, rule_identity, rule_masks
from restore_dit.config.clouds import DetectionConfig, RuleConfig
from restore_dit.data.crs import coordinate_system
from restore_dit.data.store.masks import MaskOrigin
from restore_dit.errors import UserError
from restore_dit.series import Georeference, TileSeries


class Detector(Protocol):
    """Detects clouds and shadows. A detector can be pickled, because the driver sends it to its workers."""

    @property
    def origin(self) -> MaskOrigin:
        """Origin of its masks, as recorded in a manifest. Equal origins mean equal masks."""

    def require(self, bands: tuple[str, ...], size: tuple[int, int], georeference: Georeference | None) -> None:
        """Raises `UserError` if a tile with these bands, size (H, W) and georeference cannot be masked."""

    def detect(self, tiles: Iterable[TileSeries]) -> Iterator[NDArray[np.uint8]]:
        """Masks uint8 [T, H, W] of each tile, in order (0 clear, 1 thick, 2 thin, 3 shadow, 255 no data)."""


class RuleDetector:
    """The physical rule."""

    def __init__(self, config: RuleConfig) -> None:
        self.config = config

    @property
    def origin(self) -> MaskOrigin:
        """Version and settings of the rule."""
        return MaskOrigin(method="rule", by=rule_identity(self.config))

    def require(self, bands: tuple[str, ...], size: tuple[int, int], georeference: Georeference | None) -> None:
        """Raises `UserError` if the bands do not suffice, or the coordinate reference system is unknown."""
        require_rule_bands(bands)
        if georeference is not None:
            coordinate_system(georeference)

    def detect(self, tiles: Iterable[TileSeries]) -> Iterator[NDArray[np.uint8]]:
        """Masks of each tile, in order."""
        for series in tiles:
            yield rule_masks(series, self.config)


def detector_of(config: DetectionConfig) -> Detector:
    """The configured detector, with its weights loaded.

    Raises:
        UserError: the weights are missing or invalid, or the package of the method is not installed.
        ValueError: the method only selects existing masks.
    """
    if config.method == "rule":
        return RuleDetector(config.rule)
    if config.method == "csmask":
        from restore_dit.clouds.csmask import CsmaskDetector

        return CsmaskDetector(config.rule)
    if config.method == "network":
        from restore_dit.clouds.model_directory import load_detector

        if not config.weights:
            raise UserError(
                "--method network requires --weights: a model directory of `train-clouds`, or a published state dict",
                status=2,
            )
        return load_detector(config)
    raise ValueError(f"method {config.method} detects nothing")

"""What finds clouds and shadows in tiles, whichever method: the rule or a network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from restore_dit.clouds.rule import RULE_VERSION, require_rule_bands, rule_masks
from restore_dit.config.cloud_rule import RuleConfig
from restore_dit.config.clouds import DetectionConfig
from restore_dit.data.crs import coordinate_system
from restore_dit.data.store.masks import MaskOrigin
from restore_dit.errors import UserError
from restore_dit.series import Georeference, TileSeries


class Detector(Protocol):
    """Finds clouds and shadows. It passes pickling: workers get what their driver made."""

    @property
    def origin(self) -> MaskOrigin:
        """What a manifest says of its masks: equal for equal masks."""

    def require(self, bands: tuple[str, ...], size: tuple[int, int], georeference: Georeference | None) -> None:
        """Raises `UserError` where a tile of these bands, of (H, W) pixels that lie there, cannot be masked."""

    def detect(self, tiles: Iterable[TileSeries]) -> Iterator[NDArray[np.uint8]]:
        """Masks uint8 [T, H, W] of each tile, in order (0 clear, 1 thick, 2 thin, 3 shadow, 255 no data)."""


class RuleDetector:
    """The physical rule."""

    def __init__(self, config: RuleConfig) -> None:
        self.config = config

    @property
    def origin(self) -> MaskOrigin:
        """The rule's version and settings."""
        settings = hashlib.blake2b(self.config.model_dump_json().encode(), digest_size=6).hexdigest()
        return MaskOrigin(method="rule", by=f"version {RULE_VERSION}, settings {settings}")

    def require(self, bands: tuple[str, ...], size: tuple[int, int], georeference: Georeference | None) -> None:
        """Raises `UserError` where a tile of these bands is not enough, or nobody knows where it lies."""
        require_rule_bands(bands)
        if georeference is not None:
            coordinate_system(georeference)

    def detect(self, tiles: Iterable[TileSeries]) -> Iterator[NDArray[np.uint8]]:
        """Masks of each tile, in order."""
        for series in tiles:
            yield rule_masks(series, self.config)


def detector_of(config: DetectionConfig) -> Detector:
    """The detector that a configuration asks for, its weights read.

    Raises:
        UserError: the method finds nothing but chooses masks that are there; no weights, or bad ones.
    """
    if config.method == "rule":
        return RuleDetector(config.rule)
    if config.method == "network":
        from restore_dit.clouds.model_directory import load_detector

        if not config.weights:
            raise UserError(
                "--method network needs --weights: a model directory of `clouds train`, or a published state dict",
                status=2,
            )
        return load_detector(config)
    raise ValueError(f"method {config.method} detects nothing")

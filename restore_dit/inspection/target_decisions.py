"""What a rule decides about the frames of a store: counts over all tiles, and one tile's frames as small images."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restore_dit.config import TargetConfig
from restore_dit.data.examples.targets import DECISIONS, TARGET, Decision, counted, decide, decide_by_record
from restore_dit.data.store.masks import CLOUDS
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from restore_dit.inspection.description import TargetDescription
from restore_dit.pictures.composites import Composite, natural_composite
from restore_dit.series import CLEAR, CLOUD_NO_DATA, NO_DATA, REFLECTANCE_SCALE


def describe_targets(store: TileStore, config: TargetConfig) -> TargetDescription:
    """The decisions on all frames of a store. Tiles without cloud masks are listed as undecided.

    Raises:
        UserError: a tile lacks something else that the rule needs.
    """
    counts: Counter[str] = Counter()
    targets: dict[str, int] = {}
    undecided = []
    for tile_id, record in store.manifest.tiles.items():
        if record.clouds is None and config.by != "source_list":
            undecided.append(tile_id)
            continue
        where = f"{store.uri}: tile {tile_id}"
        found = Counter(decide_by_record(config, record, where).tolist())
        counts += found
        targets[tile_id] = found[TARGET]
    number = list(targets.values()) or [0]
    return TargetDescription(
        rule=config.model_dump(mode="json"),
        tiles=len(targets),
        frames={decision: counts[decision] for decision in DECISIONS},
        fewest=min(number),
        median=float(np.median(number)),
        most=max(number),
        without_target=tuple(tile_id for tile_id, count in targets.items() if not count),
        undecided=tuple(undecided),
    )


MAX_FRAMES = 160
"""Maximum number of frames shown per tile; of longer series, evenly spaced ones."""


@dataclass(frozen=True)
class FrameStrip:
    """The n acquisitions of a tile that are shown, out of `acquisitions`.

    - `images` [n, H, W, 3]: reflectance, NaN where a band has no data.
    - `clouds`: uint8 [n, H, W], or None.
    - `decisions` [n].
    - `hidden` [n]: share of cloud and shadow among pixels with data.
    - `no_data` [n]: share of pixels without data.
    - `haze` [n]: in reflectance, NaN if unknown.
    - `counts`: number of decisions of each kind, over all acquisitions.
    """

    tile_id: str
    acquisitions: int
    composite: Composite
    dates: NDArray[np.datetime64]
    images: NDArray[np.float32]
    clouds: NDArray[np.uint8] | None
    decisions: NDArray[np.str_]
    hidden: NDArray[np.float64]
    no_data: NDArray[np.float64]
    haze: NDArray[np.float64]
    counts: dict[Decision, int]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.images.shape[1], self.images.shape[2]


def frame_strip(store: TileStore, tile_id: str, config: TargetConfig) -> FrameStrip:
    """One tile of a store, its frames decided by a rule.

    Raises:
        UserError: there is no such tile, it has no acquisitions or lacks what the rule needs, or a file is damaged.
    """
    tile = store.load(tile_id, radar_tracks=(), layers=(CLOUDS,))
    where = f"{store.uri}: tile {tile_id}"
    decisions = decide(config, tile.cloud_counts, tile.bad_frames, where, tile.optical.bands, tile.source_counts)
    if not len(tile.optical):
        raise UserError(f"{where} has no acquisition to show; select other tiles with --tiles")
    shown = np.unique(np.linspace(0, len(tile.optical) - 1, min(len(tile.optical), MAX_FRAMES)).round().astype(int))
    composite = natural_composite(tile.optical.bands)
    bands = tuple(dict.fromkeys(composite.bands))
    stored = tile.optical.decode(shown, bands)
    images = np.where(stored == NO_DATA, np.nan, stored.astype(np.float32) / np.float32(REFLECTANCE_SCALE))
    clouds = None if tile.clouds is None else tile.clouds.decode(shown)
    hidden, no_data = _shares(clouds, len(shown))
    haze = (None,) * len(tile.optical) if tile.cloud_counts is None else tile.cloud_counts.haze
    return FrameStrip(
        tile_id=tile_id,
        acquisitions=len(tile.optical),
        composite=composite,
        dates=tile.optical.dates[shown],
        images=composite.pick(images, bands).astype(np.float32),
        clouds=clouds,
        decisions=decisions[shown],
        hidden=hidden,
        no_data=no_data,
        haze=np.array([np.nan if haze[frame] is None else haze[frame] for frame in shown], np.float64),
        counts=counted(decisions),
    )


def _shares(clouds: NDArray[np.uint8] | None, frames: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each frame, the share of cloud and shadow among pixels with data, and the share of pixels without data."""
    if clouds is None:
        return np.zeros(frames), np.zeros(frames)
    no_data = (clouds == CLOUD_NO_DATA).mean(axis=(1, 2))
    hidden = ((clouds != CLEAR) & (clouds != CLOUD_NO_DATA)).mean(axis=(1, 2))
    return np.divide(hidden, 1 - no_data, out=np.zeros(frames), where=no_data < 1), no_data

"""Decides from masks which frames of a tile may be targets, and why others may not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from restore_dit.config import TargetConfig
from restore_dit.data.store.haze import HAZE_BANDS
from restore_dit.data.store.manifest import TileRecord
from restore_dit.data.store.masks import CloudCounts
from restore_dit.errors import UserError

Decision = Literal["target", "no_data", "cloud_and_shadow", "haze", "source_classes", "source_list"]
"""Whether a frame may be a target, or the first reason why not, in this order."""

DECISIONS: tuple[Decision, ...] = get_args(Decision)
TARGET: Decision = "target"

_LIMITS = {"no_data": "most_no_data", "cloud_and_shadow": "most_hidden", "haze": "most_haze"}
"""Decision → the key of `data.targets` that controls it."""


def decide(
    config: TargetConfig,
    clouds: CloudCounts | None,
    bad_frames: NDArray[np.bool_] | None,
    where: str,
    bands: Collection[str] | None = None,
    source_clouds: CloudCounts | None = None,
) -> NDArray[np.str_]:
    """The decision on each frame of a tile: [T], each one of `DECISIONS`.

    Args:
        config: the limits, and whether they, the source's list or both apply.
        clouds: statistics of the tile's masks in use.
        bad_frames: bool [T], frames that the source lists as bad; None if it has no list.
        where: the tile, for errors.
        bands: the tile's bands, which determine whether haze can be detected; None to infer this from whether any clear
            frame has a haze value.
        source_clouds: statistics of the masks that came with the tile; None without such masks.

    Raises:
        UserError: the tile lacks what the rule needs: masks, a list, or a band in which haze shows.
    """
    found: list[tuple[Decision, NDArray[np.bool_]]] = []
    if config.by != "source_list":
        if clouds is None:
            raise UserError(f"{where} has no cloud masks; detect clouds first")
        found += _by_masks(config, clouds, where, bands)
    if config.also_by_source:
        if source_clouds is None:
            raise UserError(
                f"{where} has no cloud masks that came with it; set data.targets.also_by_source=false "
                "(for an evaluation: targets.also_by_source=false)"
            )
        failing = [failing for _, failing in _by_masks(config, source_clouds, where, bands)]
        found.append(("source_classes", np.any(failing, axis=0)))
    if config.by != "masks":
        if bad_frames is None:
            raise UserError(
                f"{where} has no list of bad frames; ingest it with one, or set data.targets.by=masks "
                "(for an evaluation: targets.by=masks)"
            )
        found.append(("source_list", bad_frames))
    reasons: list[Decision] = [reason for reason, _ in found]
    return np.select([failing for _, failing in found], reasons, default=TARGET)


def decide_by_record(config: TargetConfig, record: TileRecord, where: str) -> NDArray[np.str_]:
    """`decide` for the frames of a tile, from its manifest record."""
    return decide(config, record.clouds, record.bad_frame_mask, where, record.optical.bands, record.source_clouds)


def _by_masks(
    config: TargetConfig, clouds: CloudCounts, where: str, bands: Collection[str] | None
) -> list[tuple[Decision, NDArray[np.bool_]]]:
    counts = {name: np.array(of_frames, np.int64) for name, of_frames in clouds.frames.items()}
    no_data = counts.pop("no_data")
    known = np.sum(list(counts.values()), axis=0, dtype=np.int64)
    hidden = known - counts["clear"]
    failing: list[tuple[Decision, NDArray[np.bool_]]] = [
        # A frame without any data has nothing to learn from, whatever the limit.
        ("no_data", (no_data > config.most_no_data * (known + no_data)) | (known == 0)),
        ("cloud_and_shadow", hidden > config.most_hidden * known),
    ]
    if config.most_haze is not None:
        haze = np.array([np.nan if value is None else value for value in clouds.haze], np.float64)
        haze_unknown = bool(counts["clear"].any() and np.isnan(haze).all())
        if haze_unknown if bands is None else not set(HAZE_BANDS) & set(bands):
            raise UserError(
                f"{where} has none of {', '.join(HAZE_BANDS)}, so its haze is unknown; set data.targets.most_haze=null"
            )
        failing.append(("haze", haze > config.most_haze))
    return failing


def counted(decisions: Iterable[str]) -> dict[Decision, int]:
    """Number of frames by decision, with all decisions as keys."""
    counts = Counter(map(str, decisions))
    return {decision: counts[decision] for decision in DECISIONS}


def explained(config: TargetConfig, decisions: Iterable[str]) -> str:
    """For errors: why frames may not be targets, the most common reason first, with the responsible keys."""
    counts = counted(decisions)
    reasons = sorted((decision for decision in DECISIONS if counts[decision]), key=lambda one: -counts[one])
    return ", ".join(
        f"{counts[decision]} in other parts (data.split)"
        if decision == TARGET
        else f"{counts[decision]} by {_why(config, decision)}"
        for decision in reasons
    )


def _why(config: TargetConfig, decision: Decision) -> str:
    if decision == "source_list":
        return f"the source's list of bad frames (data.targets.by={config.by})"
    if decision == "source_classes":
        return "the classes that came with the tile (data.targets.also_by_source=True)"
    key = _LIMITS[decision]
    return f"{decision.replace('_', ' ')} (data.targets.{key}={getattr(config, key)})"

"""Compares two sets of masks of the same tiles, for example a network's with a source's scene classification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from restore_dit.clouds.score_pictures import ComparedFrame
from restore_dit.clouds.scores import (
    CLASSES,
    CLOUD,
    HIDDEN,
    Counts,
    clear_flagged,
    confusion_counts,
    disagreement,
    f1,
    iou,
    merged,
    no_counts,
    precision,
    recall,
)
from restore_dit.data.store.manifest import TileRecord
from restore_dit.data.store.masks import CLOUDS
from restore_dit.data.store.tile_store import StoredTile, TileStore
from restore_dit.errors import UserError
from restore_dit.series import NO_DATA, REFLECTANCE_SCALE

_NAME = 12
"""Characters of a tile's name that fit above a frame in a picture."""


@dataclass
class Comparison:
    """Confusion counts [4, 4] of label (row) and prediction (column), in total and per tile, the `layers` that the
    predictions come from, and the `frames` with the lowest agreement."""

    counts: Counts = field(default_factory=no_counts)
    tiles: dict[str, Counts] = field(default_factory=dict)
    layers: set[str] = field(default_factory=set)
    frames: list[ComparedFrame] = field(default_factory=list)


def mask_layer(record: TileRecord, masks: str | None, tile_id: str) -> str:
    """Layer of a tile's masks. Given the name of a layer, that one; given a method, the masks in use if they are of
    this method, else the only ones of it; None selects the masks in use.

    Raises:
        UserError: there are no such masks, or several of this method.
    """
    if masks in record.masks:
        return str(masks)
    in_use = record.masks_in_use
    if in_use is not None and masks in (None, record.masks[in_use].origin.method):
        return in_use
    found = [layer for layer, one in record.masks.items() if one.origin.method == masks]
    if len(found) != 1:
        names = ", ".join(
            f"{layer} ({one.origin}{', in use' if layer == in_use else ''})" for layer, one in record.masks.items()
        )
        what = "no masks in use" if masks is None else f"{len(found) or 'no'} sets of masks named {masks}"
        then = "name one of them" if names else "detect clouds first"
        raise UserError(f"tile {tile_id}: {what}; it has {names or 'none'}: {then}")
    return found[0]


def compare_masks(
    store: TileStore,
    masks: str | None,
    against: str,
    tile_ids: Sequence[str] = (),
    keep_frames: int = 0,
    on_tile: Callable[[int, int], object] | None = None,
) -> Comparison:
    """Counts one set of masks as predictions against another as labels.

    Args:
        store: the tile store.
        masks: method or layer of the predictions; None: the masks in use.
        against: method or layer of the labels.
        tile_ids: tiles to compare; empty: all.
        keep_frames: number of frames with the lowest agreement to keep, over all tiles.
        on_tile: called after each tile with the number done and the total.

    Raises:
        UserError: a tile lacks either of the masks, no tile has an acquisition, or a file is damaged.
    """
    chosen = tuple(tile_ids) or store.tile_ids
    if not any(store.record(tile_id).optical.frames for tile_id in chosen):
        raise UserError(
            f"{store.uri}: nothing to compare: none of the {len(chosen)} tiles has an acquisition; choose others"
        )
    result = Comparison()
    for done, tile_id in enumerate(chosen, start=1):
        record = store.record(tile_id)
        layers = [mask_layer(record, chosen_masks, tile_id) for chosen_masks in (against, masks)]
        result.layers.add(layers[1])
        tile, other = (store.load(tile_id, radar_tracks=(), masks=layer) for layer in layers)
        labels, predictions = (one.layers[CLOUDS].decode() for one in (tile, other))
        result.tiles[tile_id] = confusion_counts(labels, predictions)
        result.counts = result.counts + result.tiles[tile_id]
        if keep_frames:
            worst = np.argsort(-disagreement(labels, predictions), kind="stable")[:keep_frames]
            result.frames += _compared(tile, worst, labels, predictions)
            result.frames = sorted(result.frames, key=lambda frame: -frame.disagreement)[:keep_frames]
        if on_tile is not None:
            on_tile(done, len(chosen))
    return result


def _compared(
    tile: StoredTile, frames: NDArray[np.intp], labels: NDArray[np.uint8], predictions: NDArray[np.uint8]
) -> list[ComparedFrame]:
    stored = tile.optical.decode(frames)
    values = np.where(stored == NO_DATA, np.nan, stored / np.float32(REFLECTANCE_SCALE)).astype(np.float32)
    name = tile.tile_id if len(tile.tile_id) <= _NAME else f"…{tile.tile_id[1 - _NAME :]}"
    return [
        ComparedFrame(
            image, tile.optical.bands, f"{name}\n{tile.optical.dates[frame]}", labels[frame], predictions[frame]
        )
        for image, frame in zip(values, frames, strict=True)
    ]


def comparison_text(comparison: Comparison, masks: str, against: str) -> str:
    """Tables for a terminal: shares of pixels by label and prediction, and the scores of each class."""
    counts = comparison.counts
    total = max(int(counts.sum()), 1)
    width = max(map(len, CLASSES)) + 2
    sets = ", ".join(sorted(comparison.layers))
    lines = [
        f"masks {masks} ({sets}) against {against}: {len(comparison.tiles)} tiles, {counts.sum()} pixels known in both",
        "",
        " " * (width + 12) + "".join(f"{name:>13}" for name in CLASSES) + "   predicted",
    ]
    for name, row in zip(CLASSES, counts, strict=True):
        lines.append(f"labelled    {name:<{width}}" + "".join(f"{count / total:>13.2%}" for count in row))
    lines += ["", " " * width + "".join(f"{name:>11}" for name in ("F1", "IoU", "precision", "recall"))]
    groups = [(name, counts, index) for index, name in enumerate(CLASSES)]
    groups += [("cloud", merged(counts, CLOUD), 1), ("hidden", merged(counts, HIDDEN), 1)]
    for name, group, index in groups:
        scores = (score(group)[index] for score in (f1, iou, precision, recall))
        lines.append(f"{name:<{width}}" + "".join(f"{'–' if np.isnan(one) else f'{one:.3f}':>11}" for one in scores))
    flagged = clear_flagged(counts)
    lines += ["", f"clear land flagged as cloud or shadow: {'–' if np.isnan(flagged) else f'{flagged:.2%}'}"]
    lines += ["cloud: thick or thin; hidden: cloud or shadow; –: undefined, for example because a class has no labels"]
    return "\n".join(lines)

"""Two sets of masks of the same tiles against each other, such as a network's against a source's classification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from restore_dit.clouds.scores import (
    CLASSES,
    CLOUD,
    HIDDEN,
    Counts,
    clear_flagged,
    confusion_counts,
    f1,
    iou,
    merged,
    no_counts,
    precision,
    recall,
)
from restore_dit.data.store.manifest import TileRecord
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError


@dataclass
class Comparison:
    """Counts [4, 4] of label against prediction over all tiles, and a tile each."""

    counts: Counts = field(default_factory=no_counts)
    tiles: dict[str, Counts] = field(default_factory=dict)


def mask_layer(record: TileRecord, method: str | None, tile_id: str) -> str:
    """The layer of a tile's masks by a method: those in use if they are, else the only ones; without a method those in
    use.

    Raises:
        UserError: no such masks, or several of this method.
    """
    in_use = record.masks_in_use
    if in_use is not None and method in (None, record.masks[in_use].origin.method):
        return in_use
    found = [layer for layer, masks in record.masks.items() if masks.origin.method == method]
    if len(found) != 1:
        there = ", ".join(f"{masks.origin.method} ({layer})" for layer, masks in record.masks.items()) or "none"
        what = "no masks in use" if method is None else f"{len(found) or 'no'} masks of method {method}"
        raise UserError(f"tile {tile_id}: {what}; it has {there}: detect clouds with the method and settings you mean")
    return found[0]


def compare_masks(
    store: TileStore,
    masks: str | None,
    against: str,
    tile_ids: Sequence[str] = (),
    on_tile: Callable[[int, int], object] | None = None,
) -> Comparison:
    """Counts masks of method `masks` (None: those in use) as predictions against those of method `against` as labels.

    Raises:
        UserError: a tile that lacks either, or a damaged file.
    """
    chosen = tuple(tile_ids) or store.tile_ids
    result = Comparison()
    for done, tile_id in enumerate(chosen, start=1):
        record = store.record(tile_id)
        labels, predictions = (
            store.load(tile_id, radar_tracks=(), masks=mask_layer(record, method, tile_id)).layers["clouds"].decode()
            for method in (against, masks)
        )
        result.tiles[tile_id] = confusion_counts(labels, np.asarray(predictions))
        result.counts = result.counts + result.tiles[tile_id]
        if on_tile is not None:
            on_tile(done, len(chosen))
    return result


def comparison_text(comparison: Comparison, masks: str, against: str) -> str:
    """Tables for a terminal: pixels by label and prediction, and the scores a class."""
    counts = comparison.counts
    total = max(int(counts.sum()), 1)
    width = max(map(len, CLASSES)) + 2
    lines = [
        f"masks {masks} against {against}: {len(comparison.tiles)} tiles, {counts.sum()} pixels known in both",
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
    lines += ["", f"clear land flagged as cloud or shadow: {clear_flagged(counts):.2%}"]
    lines += ["cloud: thick or thin; hidden: cloud or shadow; –: not to be told, such as of a class nobody labelled"]
    return "\n".join(lines)

"""The model card of a cloud-detection model: inputs, training data, scores and limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from restore_dit import __version__
from restore_dit.clouds import scores
from restore_dit.clouds.scores import Counts, no_counts
from restore_dit.clouds.training.resume_state import Progress
from restore_dit.clouds.training.split import LabelledStore
from restore_dit.config.cloud_training import CloudTrainingConfig


def model_card(
    config: CloudTrainingConfig, stores: Sequence[LabelledStore], counts: Mapping[str, Counts], progress: Progress
) -> str:
    """The content of `README.md`. `counts`: confusion counts on held-out frames by name of the store."""
    network = config.network
    bands = ", ".join(network.bands) + (" (a tile may lack some)" if network.missing_bands else "")
    beside = "the tile's clear reference at the same date, from its other dates" if network.reference else "none"
    learned = "\n".join(
        f"| {store.name} | {len(store.training)} | {sum(map(len, store.training.values()))} | {_held_out(store)} | "
        f"`{store.fingerprint}` |"
        for store in stores
    )
    rows = "\n".join(
        f"| {name} | {_text(scores.cloud_f1(one))} | {_text(scores.shadow_f1(one))} | {_text(scores.hidden_f1(one))} | "
        f"{_text(100 * scores.clear_flagged(one))} |"
        for name, one in counts.items()
    )
    classes = "\n".join(
        f"| {name} | "
        + " | ".join(
            _text(float(score(sum(counts.values(), no_counts()))[number]))
            for score in (scores.iou, scores.f1, scores.precision, scores.recall)
        )
        + " |"
        for number, name in enumerate(scores.CLASSES)
    )
    kept = "the weights of the last step" if not progress.best_step else f"the weights of step {progress.best_step}"
    return f"""# Cloud and shadow masks
A U-Net that detects clouds and their shadows in Sentinel-2 frames, written by restore-dit {__version__}.

| | |
|---|---|
| encoder | {network.encoder} |
| bands | {bands} |
| additional input | {beside} |
| pixel size | {f"{network.pixel_size:g} m; tiles are resampled" if network.pixel_size else "that of the tile"} |
| classes | {", ".join(scores.CLASSES)} |

## Training data
| store | tiles | frames | held out | fingerprint of tiles and labels |
|---|---|---|---|---|
{learned}

Trained for {progress.step} steps of {config.batch_size} examples; this model has {kept}. `training.yaml` has all
settings.

## Scores on held-out frames
| store | F1 of cloud | F1 of shadow | F1 of cloud or shadow | clear land flagged, % |
|---|---|---|---|---|
{rows}

| class, all stores | IoU | F1 | precision | recall |
|---|---|---|---|---|
{classes}

The weights were selected on the same frames (by the mean F1 of cloud and of shadow over the stores), so scores
elsewhere will be somewhat lower. If tiles are held out, neighbouring tiles may have been trained on at the same dates;
if dates are held out, the same land was trained on at other dates. `confusion.png`, `curves.png` and the pictures of
examples show more.

## Limits
The scores measure the agreement with the labels above, which have errors of their own: a scene classification misses
haze, thin cloud and many shadows. Land cover, seasons and sensors that are not in the stores were never seen.
Unlabelled snow, and cloud that is invisible in all bands, cannot be distinguished from what they resemble.

Use: `restore-dit detect-clouds STORE --weights MODEL`.
"""


def _held_out(store: LabelledStore) -> str:
    frames = sum(map(len, store.validation.values()))
    if not frames:
        return "none"
    tiles = len(store.validation)
    what = "other dates" if store.validation.keys() <= store.training.keys() else f"{tiles} other tiles"
    return f"{what}, {frames} frames"


def _text(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"

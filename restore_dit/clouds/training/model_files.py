"""Writes the results of a finished training: the model directory with scores, pictures and the model card, which
describes inputs, training data, scores and limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from restore_dit import __version__
from restore_dit.clouds import scores
from restore_dit.clouds.model_directory import save_cloud_model
from restore_dit.clouds.score_pictures import (
    ComparedFrame,
    confusion_picture,
    curves_picture,
    examples_picture,
)
from restore_dit.clouds.scores import Counts, no_counts
from restore_dit.clouds.training.split import LabelledStore
from restore_dit.clouds.training.validation import HeldOutFrames, ScoredFrames, criterion
from restore_dit.config import dump
from restore_dit.config.cloud_training import CloudTrainingConfig
from restore_dit.data.storage import Location
from restore_dit.series import REFLECTANCE_SCALE

_MAX_PIXELS = 2**25
"""Maximum number of pixels of the frames, held in memory, from which a picture of examples is chosen."""


def save_trained_model(
    output: Location,
    config: CloudTrainingConfig,
    network: nn.Module,
    stores: Sequence[LabelledStore],
    held_out: HeldOutFrames,
    best_step: int,
    history: Sequence[Mapping[str, float]],
) -> dict[str, Counts]:
    """Scores the network on the held-out frames, writes the model directory, and returns the confusion counts by name
    of the store. `best_step`: the validation whose weights these are (0: none); `history`: the lines of the run's
    log."""
    counts = held_out.counts(network)
    total = sum(counts.values(), no_counts())
    files = {
        "training.yaml": dump(config).encode(),
        "README.md": model_card(config, stores, counts, best_step).encode(),
        "curves.png": curves_picture(history, best_step),
    }
    if counts:
        files["confusion.png"] = confusion_picture(total, "Held-out frames of all stores")
    for number, store in enumerate(stores):
        compared = _compared(held_out, network, number, config)
        if compared:
            title = f"{store.name}: held-out frames with the lowest agreement of labels and predictions"
            files["examples.png" if len(stores) == 1 else f"examples-{store.name}.png"] = examples_picture(
                compared, title
            )
    save_cloud_model(output, config.network, network.state_dict(), metrics(counts), files)
    return counts


def metrics(counts: Mapping[str, Counts]) -> dict[str, float]:
    """All scores by name, for all stores together and, as `store/score`, for each. Undefined scores are left out."""
    found = {}
    if counts:
        found["criterion"] = criterion(list(counts.values()))
        found |= scores.summary(sum(counts.values(), no_counts()))
    for name, one in counts.items():
        found |= {f"{name}/{score}": value for score, value in scores.summary(one).items()}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _compared(
    held_out: HeldOutFrames, network: nn.Module, store: int, config: CloudTrainingConfig
) -> list[ComparedFrame]:
    """The held-out frames of a store with the size of the first one, for a picture of examples."""
    found: list[ComparedFrame] = []
    for scored in held_out.frames(network, store):
        for frame in range(len(scored.dates)):
            one = _frame(scored, frame, config)
            if not found or one.labels.shape == found[0].labels.shape:
                found.append(one)
        if found and len(found) * found[0].values.size > _MAX_PIXELS:
            break
    return found


def _frame(scored: ScoredFrames, frame: int, config: CloudTrainingConfig) -> ComparedFrame:
    channels = [config.network.bands.index(band) for band in scored.bands]
    stored = scored.inputs[frame, channels].astype(np.float32)
    values = np.where(stored == 0, np.nan, stored / np.float32(REFLECTANCE_SCALE))
    return ComparedFrame(
        values, scored.bands, str(scored.dates[frame]), scored.labels[frame], scored.predictions[frame]
    )


def model_card(
    config: CloudTrainingConfig, stores: Sequence[LabelledStore], counts: Mapping[str, Counts], best_step: int
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
    kept = f"the weights of step {best_step}" if best_step else "the weights of the last step"
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

Trained for {config.steps} steps of {config.batch_size} examples; this model has {kept}. `training.yaml` has all
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

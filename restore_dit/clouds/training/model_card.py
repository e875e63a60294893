"""The card of a cloud model: what it reads, what it learned from, how well it does, and where it will not."""

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
    """The content of `README.md`; `counts`: name of each store → label against prediction on its held-out frames."""
    network = config.network
    bands = ", ".join(network.bands) + (" (a tile may lack some)" if network.missing_bands else "")
    beside = "the tile's clear reference at its date, from its other dates" if network.reference else "nothing"
    learned = "\n".join(
        f"| {store.name} | {len(store.training)} | {sum(map(len, store.training.values()))} | {_held_out(store)} | "
        f"`{store.fingerprint}` |"
        for store in stores
    )
    rows = "\n".join(
        f"| {name} | {_told(scores.cloud_f1(one))} | {_told(scores.shadow_f1(one))} | {_told(scores.hidden_f1(one))} | "
        f"{_told(100 * scores.clear_flagged(one))} |"
        for name, one in counts.items()
    )
    classes = "\n".join(
        f"| {name} | "
        + " | ".join(
            _told(float(score(sum(counts.values(), no_counts()))[number]))
            for score in (scores.iou, scores.f1, scores.precision, scores.recall)
        )
        + " |"
        for number, name in enumerate(scores.CLASSES)
    )
    held_out = "the weights of the last step" if not progress.best_step else f"the weights of step {progress.best_step}"
    return f"""# Cloud and shadow masks
A U-Net that finds clouds and their shadows in Sentinel-2 frames, written by restore-dit {__version__}.

| | |
|---|---|
| encoder | {network.encoder} |
| bands | {bands} |
| beside each frame | {beside} |
| pixels | {f"{network.pixel_size:g} m; tiles are resampled" if network.pixel_size else "as the tiles have them"} |
| classes | {", ".join(scores.CLASSES)} |

## Learned from
| store | tiles | frames | held out | fingerprint of tiles and labels |
|---|---|---|---|---|
{learned}

{progress.step} steps of {config.batch_size} examples; kept are {held_out}. `training.yaml` has all settings.

## Scores on held-out frames
| store | F1 of cloud | F1 of shadow | F1 of either | clear land flagged, % |
|---|---|---|---|---|
{rows}

| class, all stores | IoU | F1 | precision | recall |
|---|---|---|---|---|
{classes}

Weights were chosen by these very frames (mean F1 of cloud and of shadow over the stores), so that scores elsewhere will
be somewhat lower. Where other tiles are held out, their dates are not: tiles beside them may have been learned from at
the same dates. Where other dates are held out, their land is not. `confusion.png`, `curves.png` and the pictures of
examples show more.

## Limits
The scores say how well the masks agree with the labels above, which are not the truth where they come from a scene
classification: that misses haze, thin cloud and many shadows. Land cover, seasons and sensors that the stores lack were
never seen. Snow without label, and cloud that no band shows, are not told apart from what they look like.

Use: `restore-dit clouds detect STORE --weights MODEL`.
"""


def _held_out(store: LabelledStore) -> str:
    frames = sum(map(len, store.validation.values()))
    if not frames:
        return "nothing"
    tiles = len(store.validation)
    what = "other dates" if store.validation.keys() <= store.training.keys() else f"{tiles} other tiles"
    return f"{what}, {frames} frames"


def _told(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"

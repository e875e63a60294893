"""What a finished training leaves: the model directory with its scores, pictures and card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from restore_dit.clouds import scores
from restore_dit.clouds.model_directory import save_cloud_model
from restore_dit.clouds.score_pictures import (
    ComparedFrame,
    confusion_picture,
    curves_picture,
    examples_picture,
)
from restore_dit.clouds.scores import Counts, no_counts
from restore_dit.clouds.training.model_card import model_card
from restore_dit.clouds.training.resume_state import Progress
from restore_dit.clouds.training.split import LabelledStore
from restore_dit.clouds.training.validation import ScoredFrames, Validation, criterion
from restore_dit.config import dump
from restore_dit.config.cloud_training import CloudTrainingConfig
from restore_dit.data.storage import Location
from restore_dit.series import REFLECTANCE_SCALE

_MOST_PIXELS = 2**25
"""Of the frames of a store that a picture of examples chooses from: all are in memory at once."""


def save_trained_model(
    output: Location,
    config: CloudTrainingConfig,
    network: nn.Module,
    stores: Sequence[LabelledStore],
    validation: Validation,
    progress: Progress,
) -> dict[str, Counts]:
    """Scores the network once more on the held-out frames and writes the model directory. Name of each store → counts
    of label against prediction."""
    counts = validation.counts(network)
    total = sum(counts.values(), no_counts())
    files = {
        "training.yaml": dump(config).encode(),
        "README.md": model_card(config, stores, counts, progress).encode(),
        "curves.png": curves_picture(
            [(point.step, point.loss) for point in progress.losses],
            [
                (point.step, {name: np.array(cells) for name, cells in point.counts.items()})
                for point in progress.validations
            ],
            progress.best_step,
        ),
    }
    if counts:
        files["confusion.png"] = confusion_picture(total, "Held-out frames of all stores")
    for number, store in enumerate(stores):
        compared = _compared(validation, network, number, config)
        if compared:
            title = f"{store.name}: the held-out frames on which labels and network agree least"
            files["examples.png" if len(stores) == 1 else f"examples-{store.name}.png"] = examples_picture(
                compared, title
            )
    save_cloud_model(output, config.network, network.state_dict(), metrics(counts), files)
    return counts


def metrics(counts: Mapping[str, Counts]) -> dict[str, float]:
    """Every score by name, of all stores together and, as `store/score`, of each; what cannot be told is left out."""
    told = {}
    if counts:
        told["criterion"] = criterion(list(counts.values()))
        told |= scores.summary(sum(counts.values(), no_counts()))
    for name, one in counts.items():
        told |= {f"{name}/{score}": value for score, value in scores.summary(one).items()}
    return {name: value for name, value in told.items() if not math.isnan(value)}


def _compared(
    validation: Validation, network: nn.Module, store: int, config: CloudTrainingConfig
) -> list[ComparedFrame]:
    """The held-out frames of a store that are of the size of the first, as pictures want them."""
    found: list[ComparedFrame] = []
    for scored in validation.frames(network, store):
        for frame in range(len(scored.dates)):
            one = _frame(scored, frame, config)
            if not found or one.labels.shape == found[0].labels.shape:
                found.append(one)
        if found and len(found) * found[0].values.size > _MOST_PIXELS:
            break
    return found


def _frame(scored: ScoredFrames, frame: int, config: CloudTrainingConfig) -> ComparedFrame:
    channels = [config.network.bands.index(band) for band in scored.bands]
    stored = scored.inputs[frame, channels].astype(np.float32)
    values = np.where(stored == 0, np.nan, stored / np.float32(REFLECTANCE_SCALE))
    return ComparedFrame(
        values, scored.bands, str(scored.dates[frame]), scored.labels[frame], scored.predictions[frame]
    )

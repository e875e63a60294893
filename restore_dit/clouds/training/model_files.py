"""Writes the results of a finished training: the model directory with scores, pictures and model card."""

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
"""Maximum number of pixels of the frames, held in memory, from which a picture of examples is chosen."""


def save_trained_model(
    output: Location,
    config: CloudTrainingConfig,
    network: nn.Module,
    stores: Sequence[LabelledStore],
    validation: Validation,
    progress: Progress,
) -> dict[str, Counts]:
    """Scores the network on the held-out frames, writes the model directory, and returns the confusion counts by name
    of the store."""
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
    validation: Validation, network: nn.Module, store: int, config: CloudTrainingConfig
) -> list[ComparedFrame]:
    """The held-out frames of a store with the size of the first one, for a picture of examples."""
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

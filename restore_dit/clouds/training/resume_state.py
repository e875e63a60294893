"""The state from which a stopped training resumes, in one file: tensors as safetensors, everything else as JSON in its
header.

The file is written atomically, so there is always exactly one complete state.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import safetensors
import safetensors.torch
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor

from restore_dit.config import dump
from restore_dit.config.cloud_training import CloudTrainingConfig
from restore_dit.config.loading import differences
from restore_dit.data.storage import Location, exists, list_names, read_bytes, write_bytes_atomically
from restore_dit.errors import UserError

HOW_IT_RUNS = {"stores", "output", "use_gpu", "threads", "save_every", "log_every"}
"""Settings that may change when a training is resumed. Stores may be moved, but their content must be the same."""

FORMAT: Literal[2] = 2
"""Version of the state's format. Version 1 identified stores by their masks in use."""

STATE_FOLDER = "state"
"""Folder in the output with everything that a training writes before it is finished."""


class LossPoint(BaseModel):
    """The mean loss of the steps since the last point."""

    step: int
    loss: float


class ValidationPoint(BaseModel):
    """A validation: confusion counts [4, 4] of label (row) and prediction (column), by name of the store."""

    step: int
    counts: dict[str, list[list[int]]]


class Progress(BaseModel):
    """Progress of a training after `step` steps. `best_*`: the best validation so far; `unreported`: losses since the
    last point."""

    format: Literal[2] = FORMAT
    identity: dict[str, Any]
    step: int = 0
    best_step: int = 0
    best_criterion: float | None = None
    losses: list[LossPoint] = Field(default_factory=list)
    unreported: list[float] = Field(default_factory=list)
    validations: list[ValidationPoint] = Field(default_factory=list)
    finished: bool = False


def identity(config: CloudTrainingConfig, fingerprints: list[str]) -> dict[str, Any]:
    """Settings and stores that must be equal for a training to be resumed."""
    return {**json.loads(config.model_dump_json(exclude=HOW_IT_RUNS)), "stores": fingerprints}


def state_file(output: Location) -> Location:
    """The file with the state of a training."""
    return output.join(STATE_FOLDER, "state.safetensors")


def claim(output: Location, config: CloudTrainingConfig) -> None:
    """Writes the configuration next to the future state, so that an unwritable output is noticed before any
    computation.

    Raises:
        UserError: the output cannot be written, or contains files of something else, which the model would overwrite.
    """
    others = [name for name in list_names(output) if name != STATE_FOLDER]
    if others and not exists(state_file(output)):
        raise UserError(
            f"{output.uri}: holds {', '.join(others[:3])}{', …' if len(others) > 3 else ''} but no state of a cloud "
            "training, and would be overwritten; choose another output or an empty folder"
        )
    write_bytes_atomically(output.join(STATE_FOLDER, "training.yaml"), dump(config).encode())


def save_state(output: Location, progress: Progress, parts: dict[str, dict[str, Tensor]]) -> None:
    """Writes the state, replacing the previous one."""
    tensors = {f"{part}/{name}": value.contiguous() for part, values in parts.items() for name, value in values.items()}
    content = safetensors.torch.save(tensors, metadata={"progress": progress.model_dump_json()})
    write_bytes_atomically(state_file(output), content)


def load_state(
    output: Location, config: CloudTrainingConfig, fingerprints: list[str]
) -> tuple[Progress, dict[str, dict[str, Tensor]]]:
    """The saved progress, and the tensors by part and name. Both are empty if the training has not started.

    Raises:
        UserError: the state is damaged, or has another format, configuration or stores.
    """
    mine, file = identity(config, fingerprints), state_file(output)
    if not exists(file):
        return Progress(identity=mine), {}
    content = read_bytes(file)
    try:
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        saved = json.loads(header["__metadata__"]["progress"])
        if saved["format"] != FORMAT:
            raise UserError(
                f"{file.uri}: has format {saved['format']!r}, but this version reads {FORMAT}; use a matching version "
                "of restore-dit, or choose another output"
            )
        progress = Progress.model_validate(saved)
    except (safetensors.SafetensorError, ValidationError, ValueError, KeyError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{file.uri}: damaged ({why}); delete it to start again") from None
    for key, (old, new) in differences(progress.identity, mine).items():
        what = "on other stores, or they have changed since" if key == "stores" else f"with {key}={old!r}, not {new!r}"
        raise UserError(f"{output.uri}: this training was started {what}; choose another output")
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = value
    return progress, parts

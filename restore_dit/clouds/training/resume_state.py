"""What a stopped training goes on from, in one file: tensors as safetensors, all else as JSON in its header.

The file is written as a whole or not at all, so that there is always one state, and it is complete.
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
from restore_dit.data.storage import Location, exists, list_names, read_bytes, write_bytes_atomically
from restore_dit.errors import UserError

HOW_IT_RUNS = {"stores", "output", "use_gpu", "threads", "save_every", "log_every"}
"""Settings that may differ when a training goes on. Stores may lie elsewhere, but must be the same by their content."""

FORMAT: Literal[2] = 2
"""Of the state. 1 knew its stores by the masks in use."""

STATE_FOLDER = "state"
"""Of the output: all that a training leaves there before it is finished."""


class LossPoint(BaseModel):
    """The mean loss of the steps since the last point."""

    step: int
    loss: float


class ValidationPoint(BaseModel):
    """A validation: name of the store → counts of label (row) against prediction (column)."""

    step: int
    counts: dict[str, list[list[int]]]


class Progress(BaseModel):
    """Where a training stands after `step` steps: `best_*` the validation whose weights are the best so far,
    `unreported` the losses since the last point."""

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
    """What must be equal for a training to go on."""
    return {**json.loads(config.model_dump_json(exclude=HOW_IT_RUNS)), "stores": fingerprints}


def state_file(output: Location) -> Location:
    """Where the state of a training lies."""
    return output.join(STATE_FOLDER, "state.safetensors")


def claim(output: Location, config: CloudTrainingConfig) -> None:
    """Writes the configuration beside where the state will lie: a place that cannot be written shows before anything is
    computed.

    Raises:
        UserError: it cannot, or the folder holds something that no cloud training left, which the model would replace.
    """
    others = [name for name in list_names(output) if name != STATE_FOLDER]
    if others and not exists(state_file(output)):
        raise UserError(
            f"{output.uri}: holds {', '.join(others[:3])}{', …' if len(others) > 3 else ''} but no state of a cloud "
            "training, and would be written over; choose another output or an empty folder"
        )
    write_bytes_atomically(output.join(STATE_FOLDER, "training.yaml"), dump(config).encode())


def save_state(output: Location, progress: Progress, parts: dict[str, dict[str, Tensor]]) -> None:
    """Writes the state, in the place of the one before it."""
    tensors = {f"{part}/{name}": value.contiguous() for part, values in parts.items() for name, value in values.items()}
    content = safetensors.torch.save(tensors, metadata={"progress": progress.model_dump_json()})
    write_bytes_atomically(state_file(output), content)


def load_state(
    output: Location, config: CloudTrainingConfig, fingerprints: list[str]
) -> tuple[Progress, dict[str, dict[str, Tensor]]]:
    """Where the training stands, and its tensors by part and name; both empty where it has not begun.

    Raises:
        UserError: a damaged state, or that of another format, configuration or stores.
    """
    mine, file = identity(config, fingerprints), state_file(output)
    if not exists(file):
        return Progress(identity=mine), {}
    content = read_bytes(file)
    try:
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        told = json.loads(header["__metadata__"]["progress"])
        if told["format"] != FORMAT:
            raise UserError(
                f"{file.uri}: of format {told['format']!r}, this program reads {FORMAT}; use a matching version of "
                "restore-dit, or choose another output"
            )
        progress = Progress.model_validate(told)
    except (safetensors.SafetensorError, ValidationError, ValueError, KeyError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{file.uri}: damaged ({why}); delete it to train anew") from None
    for key, (old, new) in _differences(progress.identity, mine).items():
        what = "on other stores, or they have changed since" if key == "stores" else f"with {key}={old!r}, not {new!r}"
        raise UserError(f"{output.uri}: this training was started {what}; choose another output")
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = value
    return progress, parts


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found |= _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found[prefix + key] = (a, b)
    return found

"""What a run resumes from: whole fp32 tensors as safetensors and counters as JSON, the same for any number of workers
and any ZeRO stage. A state is complete once `latest.json` names it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import safetensors
import safetensors.torch

from restore_dit.data.storage import Location, delete_folder, exists, list_names, read_bytes, write_bytes_atomically
from restore_dit.errors import UserError
from restore_dit.trainer.engine import StateTensors

KEPT_STATES = 2


@dataclass(frozen=True)
class Counters:
    """A run's progress after `step` optimiser steps, its best weights so far, and the sum and number of the losses that
    no report has included yet."""

    step: int = 0
    best_score: float | None = None
    best_step: int = 0
    best_loss: float | None = None
    unreported_loss: float = 0.0
    unreported_steps: int = 0


def save(folder: Location, tensors: StateTensors, counters: Counters) -> None:
    """Writes a state, makes it the latest, and removes all but the last `KEPT_STATES`."""
    name = f"step-{counters.step:09d}"
    for part, values in tensors.items():
        write_bytes_atomically(folder.join(name, f"{part}.safetensors"), safetensors.torch.save(values))
    write_bytes_atomically(folder.join(name, "counters.json"), json.dumps(asdict(counters)).encode())
    # The pointer comes last: until it is written, the previous state remains the latest and is complete.
    write_bytes_atomically(folder.join("latest.json"), json.dumps({"state": name}).encode())
    # One older state is kept in case the latest is damaged; each is four times the size of the model.
    states = [entry for entry in list_names(folder) if entry.startswith("step-")]
    for old in states[: max(0, states.index(name) - KEPT_STATES + 1)]:
        delete_folder(folder.join(old))


def copy_latest(source: Location, target: Location) -> None:
    """Makes the latest state of one run the starting point of another, which begins without a best model.

    Raises:
        UserError: the source has no state.
    """
    name = _latest(source)
    if name is None:
        raise UserError(f"{source.uri}: no state to continue from")
    for file in list_names(source.join(name)):
        if file.endswith(".safetensors"):
            write_bytes_atomically(target.join(name, file), read_bytes(source.join(name, file)))
    counters = Counters(step=load_counters(source).step)
    write_bytes_atomically(target.join(name, "counters.json"), json.dumps(asdict(counters)).encode())
    write_bytes_atomically(target.join("latest.json"), json.dumps({"state": name}).encode())


def load_counters(folder: Location) -> Counters:
    """The counters of the latest state; initial counters if there is none."""
    name = _latest(folder)
    if name is None:
        return Counters()
    saved = json.loads(read_bytes(folder.join(name, "counters.json")))
    saved.setdefault("best_score", saved.pop("best_psnr", None))  # its name until version 0.1
    return Counters(**saved)


def load_tensors(folder: Location) -> StateTensors | None:
    """The tensors of the latest state, or None if there is none.

    Raises:
        UserError: a file of the state is damaged.
    """
    name = _latest(folder)
    if name is None:
        return None
    tensors: StateTensors = {}
    for file in list_names(folder.join(name)):
        if file.endswith(".safetensors"):
            place = folder.join(name, file)
            try:
                tensors[file.removesuffix(".safetensors")] = safetensors.torch.load(read_bytes(place))
            except safetensors.SafetensorError as error:
                raise UserError(
                    f"{place.uri}: damaged ({error}); point {folder.uri}/latest.json at an older state"
                ) from None
    return tensors


def _latest(folder: Location) -> str | None:
    place = folder.join("latest.json")
    if not exists(place):
        return None
    try:
        return str(json.loads(read_bytes(place))["state"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f'{place.uri}: damaged; write {{"state": "step-…"}} naming a folder next to it') from None

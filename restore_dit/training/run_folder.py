"""A run's folder, at any URI: its contents, its identity, and whether the run may continue.

`run.json` (identity and status), `config.yaml`, `model/` (the best weights so far), `state/` (what a run resumes from),
`logs/` (metrics, TensorBoard, which rank computed which example), `mlflow.json` (the run on a tracking server).
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from restore_dit.config import RunConfig, dump
from restore_dit.config.loading import differences
from restore_dit.data.storage import Location, exists, locate, read_bytes, write_bytes_atomically
from restore_dit.errors import UserError

HOW_IT_RUNS = {
    "name": True,
    "output": True,
    "workers": True,
    "tracking": True,
    "data": {"store", "cache_decoded"},
    "training": {
        "zero_stage",
        "offload_optimiser",
        "micro_batch_size",
        "activation_checkpointing",
        "compile",
        "validate_every",
        "save_every",
        "log_every",
        "log_examples",
    },
}
"""Keys that determine how and where a run is computed, not what: they may differ when it resumes."""


class RunRecord(BaseModel):
    """The content of `run.json`."""

    format: Literal[1] = 1
    status: Literal["running", "finished"]
    store_fingerprint: str
    identity: dict[str, Any]


class RunFolder:
    """The folder `output/name` of a run."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.location: Location = locate(config.output).join(config.name)

    @property
    def model(self) -> Location:
        """The model directory."""
        return self.location.join("model")

    @property
    def state(self) -> Location:
        """The folder of the resume states."""
        return self.location.join("state")

    @property
    def logs(self) -> Location:
        """The folder of metrics and logs."""
        return self.location.join("logs")

    def claim(self, store_fingerprint: str) -> None:
        """Starts the run, or continues it.

        Raises:
            UserError: the folder holds a finished run, or one with another configuration or store.
        """
        record = RunRecord(status="running", store_fingerprint=store_fingerprint, identity=identity(self.config))
        existing = self._read()
        if existing is None:
            write_bytes_atomically(self.location.join("config.yaml"), dump(self.config).encode())
            self._write(record)
            return
        where = self.location.uri
        if existing.status == "finished":
            raise UserError(f"{where}: this run is finished; choose another name=… or delete the folder to train again")
        if existing.store_fingerprint != store_fingerprint:
            raise UserError(
                f"{where}: this run was started on another tile store (or the store {self.config.data.store} has "
                "changed since); choose another name=… or restore the store"
            )
        for key, (old, new) in differences(_completed(existing.identity), record.identity).items():
            raise UserError(f"{where}: this run was started with {key}={old!r}, not {new!r}; choose another name=…")

    def is_finished(self) -> bool:
        """Whether the folder holds a finished run."""
        record = self._read()
        return record is not None and record.status == "finished"

    def finish(self) -> None:
        """Marks the run as finished."""
        record = self._read()
        assert record is not None
        self._write(record.model_copy(update={"status": "finished"}))

    def _read(self) -> RunRecord | None:
        place = self.location.join("run.json")
        if not exists(place):
            return None
        try:
            return RunRecord.model_validate_json(read_bytes(place))
        except ValidationError:
            raise UserError(f"{place.uri}: damaged or written by another version; choose another name=…") from None

    def _write(self, record: RunRecord) -> None:
        write_bytes_atomically(self.location.join("run.json"), record.model_dump_json(indent=2).encode())


def identity(config: RunConfig) -> dict[str, Any]:
    """The settings that must be equal for a run to count as the same."""
    return json.loads(config.model_dump_json(exclude=HOW_IT_RUNS))  # type: ignore[arg-type]


def _completed(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored identity with the defaults of keys that were added later; unchanged if one of its keys no longer
    exists."""
    try:
        return identity(RunConfig.model_validate(stored))
    except ValidationError:
        return stored

"""A run's folder, at any URI: its contents, its identity, and whether the run may continue.

`run.json` (identity and status), `config.yaml`, `state/` (what a run resumes from), `logs/` (metrics, TensorBoard,
which rank computed which example), `mlflow.json` (the run on a tracking server).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from restore_dit.config import dump
from restore_dit.config.loading import differences
from restore_dit.data.storage import Location, exists, read_bytes, write_bytes_atomically
from restore_dit.errors import UserError


class RunRecord(BaseModel):
    """The content of `run.json`."""

    format: Literal[1] = 1
    status: Literal["running", "finished"]
    store_fingerprint: str
    identity: dict[str, Any]


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run.

    - `config`: the whole configuration of the run.
    - `location`: the folder; `model`: that of the model directory.
    - `may_differ`: keys (as pydantic excludes them) that determine how and where a run is computed, not what: they may
      differ when it resumes.
    - `instead`: what to do where the run cannot be continued, for messages.
    """

    config: BaseModel
    location: Location
    model: Location
    may_differ: Any
    instead: str

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
        record = RunRecord(status="running", store_fingerprint=store_fingerprint, identity=self._identity(self.config))
        existing = self.read()
        if existing is None:
            # The record comes last: a folder without it has not been claimed.
            write_bytes_atomically(self.location.join("config.yaml"), dump(self.config).encode())
            self._write(record)
            return
        where = self.location.uri
        if existing.status == "finished":
            raise UserError(f"{where}: this run is finished; {self.instead} or delete the folder to train again")
        if existing.store_fingerprint != store_fingerprint:
            raise UserError(
                f"{where}: this run was started on another tile store (or the store has changed since); {self.instead} "
                "or restore the store"
            )
        # The first difference suffices: the message is one line.
        for key, (old, new) in differences(self._completed(existing.identity), record.identity).items():
            raise UserError(f"{where}: this run was started with {key}={old!r}, not {new!r}; {self.instead}")

    def is_finished(self) -> bool:
        """Whether the folder holds a finished run."""
        record = self.read()
        return record is not None and record.status == "finished"

    def finish(self) -> None:
        """Marks the run as finished."""
        record = self.read()
        assert record is not None
        self._write(record.model_copy(update={"status": "finished"}))

    def read(self) -> RunRecord | None:
        """The record of the run in the folder, if there is one.

        Raises:
            UserError: it is damaged.
        """
        place = self.location.join("run.json")
        if not exists(place):
            return None
        try:
            return RunRecord.model_validate_json(read_bytes(place))
        except ValidationError:
            raise UserError(f"{place.uri}: damaged or written by another version; {self.instead}") from None

    def _write(self, record: RunRecord) -> None:
        write_bytes_atomically(self.location.join("run.json"), record.model_dump_json(indent=2).encode())

    def _identity(self, config: BaseModel) -> dict[str, Any]:
        """The settings that must be equal for a run to count as the same."""
        return json.loads(config.model_dump_json(exclude=self.may_differ))

    def _completed(self, stored: dict[str, Any]) -> dict[str, Any]:
        """A stored identity with the defaults of keys that were added later; unchanged if one of its keys no longer
        exists."""
        try:
            return self._identity(type(self.config).model_validate(stored))
        except ValidationError:
            return stored

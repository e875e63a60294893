"""Reconstructions that wait, run or are done, as files: what a restarted service goes on from.

`ID/input` is the upload as it came, `ID/request.json` what is wanted of it, `ID/state.json` how far it is, `ID/result/`
its files. Ids cannot be guessed, but a caller sees only its own.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Literal, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError

from restore_dit.config import SamplerName
from restore_dit.data.storage import (
    Location,
    delete_folder,
    exists,
    list_names,
    read_bytes,
    write_bytes_atomically,
)

Status = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED: tuple[Status, ...] = ("done", "failed", "cancelled")

Output = Literal["reflectance", "ndvi", "previews", "uncertainty"]
OUTPUTS: tuple[Output, ...] = get_args(Output)

RecordT = TypeVar("RecordT", bound=BaseModel)

_ID = re.compile(r"[A-Za-z0-9_-]{22}")


class Wanted(BaseModel):
    """What is asked of the endpoint for one series."""

    model: str = Field("", description="name of the model; empty: the default")
    steps: int | None = Field(None, ge=1, description="diffusion steps; none: the model's own")
    sampler: SamplerName | None = None
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    mask_dilation: int | None = Field(None, ge=0, le=32)
    dates: tuple[str, ...] = Field((), description="ISO dates of the series that are answered; none: all")
    outputs: tuple[Output, ...] = ("reflectance",)
    format: Literal["netcdf", "geotiff", "json"] = "netcdf"
    views: bool = Field(False, description="keep images and series of pixels, too, as the viewer shows them")


class Request(BaseModel):
    """A reconstruction that was accepted."""

    id: str
    owner: str
    wanted: Wanted
    kind: Literal["netcdf", "geotiff", "uri"]
    name: str
    """Of the upload, for messages; of a `uri` the address itself."""
    created: float
    """Seconds since 1970."""


class State(BaseModel):
    """How far a reconstruction is."""

    status: Status = "queued"
    done: int = 0
    """Windows of the network."""
    total: int = 0
    error: str = ""
    files: tuple[str, ...] = ()
    ended: float | None = None
    attempts: int = 0
    """How often the process that did it has died."""
    touched: float = 0.0
    """When a desk last said that it has this one, in seconds since 1970."""


def replace_state(state: State, **changes: object) -> State:
    """The state, but for these fields."""
    return state.model_copy(update=changes)


@dataclass(frozen=True)
class Records:
    """The folder of all of them."""

    folder: Location
    _incomplete: set[str] = dataclass_field(default_factory=set, compare=False, repr=False)
    """Ids that were seen without a request: what a late write left of a deleted record, if they are seen again."""

    def new_id(self) -> str:
        """One that nobody can guess."""
        return secrets.token_urlsafe(16)

    def place(self, id_: str) -> Location:
        """The folder of one.

        Raises:
            KeyError: no id.
        """
        if not _ID.fullmatch(id_):
            raise KeyError(id_)
        return self.folder.join(id_)

    def add(self, request: Request, content: bytes) -> None:
        """Keeps a request; its state comes last, so that one without a state was never accepted."""
        place = self.place(request.id)
        write_bytes_atomically(place.join("request.json"), request.model_dump_json().encode())
        write_bytes_atomically(place.join("input"), content)
        self.set_state(request.id, State(touched=time.time()))

    def request(self, id_: str) -> Request:
        """What was asked.

        Raises:
            KeyError: nothing there.
        """
        return self._read(id_, "request.json", Request)

    def state(self, id_: str) -> State:
        """How far it is.

        Raises:
            KeyError: nothing there.
        """
        return self._read(id_, "state.json", State)

    def set_state(self, id_: str, state: State) -> None:
        """Keeps how far it is."""
        write_bytes_atomically(self.place(id_).join("state.json"), state.model_dump_json().encode())

    def input(self, id_: str) -> bytes:
        """The upload."""
        return read_bytes(self.place(id_).join("input"))

    def result(self, id_: str) -> Location:
        """The folder of its files."""
        return self.place(id_).join("result")

    def ids(self) -> list[str]:
        """All there are."""
        return [name for name in list_names(self.folder) if _ID.fullmatch(name)]

    def delete(self, id_: str) -> None:
        """Removes all of it."""
        delete_folder(self.place(id_))

    def expired(self, keep_seconds: float) -> list[str]:
        """Those that ended so long ago, and those that were never wholly accepted."""
        now, found = time.time(), []
        for id_ in self.ids():
            try:
                ended = self.state(id_).ended
            except KeyError:
                ended = self._created(id_)
            if ended is None and not self._has(id_, "request.json"):
                ended = now - keep_seconds - 1 if id_ in self._incomplete else None
                self._incomplete.add(id_)
            if ended is not None and now - ended > keep_seconds:
                found.append(id_)
        return found

    def _has(self, id_: str, name: str) -> bool:
        return exists(self.place(id_).join(name))

    def _created(self, id_: str) -> float | None:
        try:
            return self.request(id_).created
        except KeyError:
            return None

    def _read(self, id_: str, name: str, kind: type[RecordT]) -> RecordT:
        place = self.place(id_).join(name)
        if not exists(place):
            raise KeyError(id_)
        try:
            return kind.model_validate_json(read_bytes(place))
        except ValidationError:
            raise KeyError(id_) from None

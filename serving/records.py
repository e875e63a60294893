"""Queued, running and finished jobs as files, from which a restarted service resumes.

`ID/input` is the unmodified upload, `ID/request.json` the request, `ID/state.json` its status and progress, and
`ID/result/` holds the results. Ids cannot be guessed, and a caller only sees its own jobs. A small series that is
answered synchronously has only `ID/input`, until it is answered. A request with an idempotency key has an id made from
key and owner, by which its repetitions are found, and an input with a name of its own, so that none overwrites another.
"""

from __future__ import annotations

import re
import secrets
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from hashlib import sha256
from typing import IO, Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from restore_dit.config import SamplerName
from restore_dit.data.storage import (
    Location,
    delete,
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


def _listed(given: Any) -> Any:
    """The different items of a list, in which each text may hold several, separated by commas."""
    parts = [part.strip() for text in given for part in text.split(",")]
    return list(dict.fromkeys(filter(None, parts)))


Listed = BeforeValidator(_listed)


class RequestOptions(BaseModel):
    """The options of a request."""

    model: str = Field("", max_length=200, description="name of the model; empty: the default model")
    steps: int | None = Field(None, ge=1, description="diffusion steps; none: the model's own")
    sampler: SamplerName | None = None
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    mask_dilation: int | None = Field(
        None, ge=0, le=32, description="pixels by which masks of cloud and shadow are dilated"
    )
    samples: int = Field(0, ge=0, description="possible series to draw beside the filled one")
    replace_suspect: bool = Field(
        False, description="fill observed pixels, too, that are probably cloud, haze or shadow which the mask missed"
    )
    dates: Annotated[tuple[str, ...], Listed] = Field(
        (),
        max_length=2000,
        description="ISO dates to fill and return, acquired or not; none: those of the acquisitions",
    )
    every: str = Field(
        "",
        description="instead of `dates`: a number of days, or month for the 15th of every month",
    )
    outputs: Annotated[tuple[Output, ...], Listed] = Field(("reflectance",), min_length=1, max_length=20)
    format: Literal["netcdf", "geotiff", "json"] = "netcdf"
    views: bool = Field(False, description="also keep the images and pixel time series that the viewer shows")


class Request(BaseModel):
    """An accepted job."""

    id: str
    owner: str
    wanted: RequestOptions
    kind: Literal["netcdf", "geotiff", "uri"]
    name: str
    """What messages call the input."""
    created: float
    """Seconds since 1970."""
    input: str = "input"
    """Name of the input in the record."""
    fingerprint: str = ""
    """Hash of the options and the input of a request with an idempotency key."""


class State(BaseModel):
    """Status and progress of a job."""

    status: Status = "queued"
    done: int = 0
    """Number of windows finished."""
    total: int = 0
    """Number of windows; 0 until it is known."""
    error: str = ""
    files: tuple[str, ...] = ()
    ended: float | None = None
    """Seconds since 1970."""
    attempts: int = 0
    """How often the process running the job has died."""
    touched: float = 0.0
    """Last heartbeat of the job manager that runs the job, in seconds since 1970."""


def replace_state(state: State, **changes: object) -> State:
    """A copy of the state with these fields changed."""
    return state.model_copy(update=changes)


@dataclass(frozen=True)
class Records:
    """The folder of all jobs."""

    folder: Location
    _incomplete: dict[str, float] = dataclass_field(default_factory=dict, compare=False, repr=False)
    """When ids were first seen without a request: series that are being answered, or leftovers of dead processes."""

    def new_id(self) -> str:
        """A random id that cannot be guessed."""
        return secrets.token_urlsafe(16)

    def keyed_id(self, owner: str, key: str) -> str:
        """The id of an owner's request with this idempotency key."""
        return urlsafe_b64encode(sha256(f"{owner}\0{key}".encode()).digest()[:16]).rstrip(b"=").decode()

    def place(self, id_: str) -> Location:
        """The folder of a job.

        Raises:
            KeyError: not a valid id.
        """
        if not _ID.fullmatch(id_):
            raise KeyError(id_)
        return self.folder.join(id_)

    def put_input(self, request: Request, upload: bytes | IO[bytes]) -> None:
        """Keeps an upload, bytes or an open file, whether or not it becomes a job."""
        write_bytes_atomically(self.place(request.id).join(request.input), upload)

    def discard_input(self, request: Request) -> None:
        """Deletes the upload of a request that did not become a job."""
        if request.fingerprint:  # there may be others with the same key
            delete(self.place(request.id).join(request.input))
        else:
            self.delete(request.id)

    def add(self, request: Request) -> None:
        """Records a job, whose input is there. The state is written last, so a record without a state was never
        accepted."""
        write_bytes_atomically(self.place(request.id).join("request.json"), request.model_dump_json().encode())
        self.set_state(request.id, State(touched=time.time()))

    def request(self, id_: str) -> Request:
        """The request of a job.

        Raises:
            KeyError: missing or unreadable.
        """
        return self._read(id_, "request.json", Request)

    def state(self, id_: str) -> State:
        """The state of a job.

        Raises:
            KeyError: missing or unreadable.
        """
        return self._read(id_, "state.json", State)

    def set_state(self, id_: str, state: State) -> None:
        """Writes the state of a job."""
        write_bytes_atomically(self.place(id_).join("state.json"), state.model_dump_json().encode())

    def accepted(self, id_: str) -> Request | None:
        """The request of a job; None if there is no such job."""
        try:
            self.state(id_)
            return self.request(id_)
        except KeyError:
            return None

    def input(self, request: Request) -> bytes:
        """The upload, unmodified."""
        return read_bytes(self.place(request.id).join(request.input))

    def result(self, id_: str) -> Location:
        """The folder with the results of a job."""
        return self.place(id_).join("result")

    def ids(self) -> list[str]:
        """The ids of all jobs."""
        return [name for name in list_names(self.folder) if _ID.fullmatch(name)]

    def delete(self, id_: str) -> None:
        """Deletes a job with its input and results."""
        delete_folder(self.place(id_))

    def expired(self, keep_seconds: float, answer_seconds: float) -> list[str]:
        """Ids of jobs that ended more than `keep_seconds` ago, and of inputs that after `answer_seconds` no process can
        still be answering."""
        now, found, ids = time.time(), [], self.ids()
        for id_ in self._incomplete.keys() - set(ids):
            del self._incomplete[id_]
        for id_ in ids:
            try:
                ended = self.state(id_).ended
            except KeyError:
                ended = self._created(id_)
            if ended is None and not self._has(id_, "request.json"):
                if now - self._incomplete.setdefault(id_, now) > answer_seconds:
                    found.append(id_)
            elif ended is not None and now - ended > keep_seconds:
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

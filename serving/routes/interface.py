"""The HTTP interface's types and errors."""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException
from pydantic import BaseModel, Field

from restore_dit.config import SamplerName
from serving import records


class ReconstructionState(BaseModel):
    """A reconstruction."""

    id: str
    status: records.Status
    done: int = Field(description="windows of the network that are done")
    total: int = Field(description="windows in all; 0 while nobody knows")
    error: str = ""
    links: dict[str, str] = Field(description="where to ask next, paths on this server")
    files: dict[str, str] = Field(description="results by name, paths on this server")


class ModelDescription(BaseModel):
    """A model that is served."""

    name: str
    default: bool
    bands: list[str]
    radar: list[str]
    frames: int = Field(description="dates that the network sees at once")
    steps: int = Field(description="diffusion steps that a request gets which names none")
    sampler: SamplerName
    outputs: list[records.Output]
    metrics: dict[str, float]


class Problem(BaseModel):
    """What is wrong, in one line."""

    error: str


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        400: "the request cannot be understood",
        401: "no token, or a wrong one",
        404: "no such thing, or not yours",
        408: "sending it took too long",
        413: "larger than the service takes",
        415: "neither NetCDF, ZIP nor JSON",
        422: "the series or an option cannot be used",
        429: "too many requests; Retry-After says when",
        503: "for a while there is nobody to do it; Retry-After says when",
    }.items()
}


def problem(status: int, error: str, headers: dict[str, str] | None = None) -> HTTPException:
    """One line for the caller."""
    return HTTPException(status, " ".join(error.split()), headers)

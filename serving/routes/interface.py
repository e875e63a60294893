"""Types and errors of the HTTP interface."""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException
from pydantic import BaseModel, Field

from restore_dit.config import SamplerName
from serving import records


class ReconstructionState(BaseModel):
    """Status and progress of a reconstruction job."""

    id: str
    status: records.Status
    done: int = Field(description="number of windows finished")
    total: int = Field(description="number of windows; 0 until it is known")
    error: str = ""
    links: dict[str, str] = Field(description="related resources, as paths on this server")
    files: dict[str, str] = Field(description="results by name, as paths on this server")


class ModelDescription(BaseModel):
    """A model that is served."""

    name: str
    default: bool
    bands: list[str]
    radar: list[str]
    frames: int = Field(description="number of dates in one window of the network")
    steps: int = Field(description="default number of diffusion steps")
    sampler: SamplerName
    outputs: list[records.Output]
    metrics: dict[str, float]


class Problem(BaseModel):
    """A one-line error message."""

    error: str


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        400: "empty or malformed request",
        401: "missing or wrong token",
        404: "not found, or owned by another token",
        408: "the upload took too long",
        413: "larger than the service accepts",
        415: "neither NetCDF, ZIP nor JSON",
        422: "the series or an option is invalid",
        429: "too many requests; Retry-After says when to try again",
        503: "temporarily unavailable; Retry-After says when to try again",
    }.items()
}


def problem(status: int, error: str, headers: dict[str, str] | None = None) -> HTTPException:
    """An HTTP error whose message is put on one line."""
    return HTTPException(status, " ".join(error.split()), headers)

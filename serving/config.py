"""Configuration of the endpoint: models, access, processes, limits."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from restore_dit.config.clouds import DetectionConfig
from restore_dit.config.examples import Positive, Section
from restore_dit.config.jobs import SHIPPED_MODEL
from restore_dit.data.exchange.limits import SeriesLimits

AT_ONCE = 4
"""Series that a process reconstructs concurrently."""


class LimitsConfig(Section):
    """Limits per request, per token and for the whole service."""

    body_megabytes: Positive = Field(512, description="maximum size of an upload, in MB")
    side: Positive = Field(2048, description="maximum height and width of a series, in pixels")
    dates: Positive = Field(500, description="maximum number of dates per sensor")
    million_values: Positive = Field(400, description="maximum dates × bands × pixels per sensor, in millions")
    steps: Positive = Field(100, description="maximum number of diffusion steps")
    samples: int = Field(16, ge=0, le=100, description="maximum number of possible series")
    parse_seconds: Positive = Field(60, description="time limit for parsing an upload")
    upload_seconds: Positive = Field(300, description="time limit for sending an upload")
    work_seconds: Positive = Field(3600, description="time limit for a reconstruction")
    requests_a_minute: Positive = Field(600, description="maximum requests per minute and token")
    requests_a_token: Positive = Field(32, description="maximum concurrent reconstruction requests per token")
    jobs_a_token: Positive = Field(8, description="maximum queued and running jobs per token")
    queue: Positive = Field(64, description="maximum queued and running jobs of all tokens; further ones get 429")

    @property
    def series(self) -> SeriesLimits:
        """The limits of a series."""
        return SeriesLimits(self.side, self.dates, self.million_values * 1_000_000)


class ReplicasConfig(Section):
    """Processes of one kind, scaled with the number of waiting requests."""

    least: int = Field(1, ge=0, description="minimum number; 0: none while there are no requests")
    most: Positive = Field(1, description="maximum number")
    cpus: float = Field(0.5, ge=0, description="CPUs reserved for each")
    idle_seconds: float = Field(600, ge=0, description="delay before processes that are no longer needed are stopped")


class ServingConfig(Section):
    """The endpoint."""

    models: str = Field(
        SHIPPED_MODEL,
        description="URI of a model directory, or of a folder of model directories, each served under its name",
    )
    default_model: str | None = Field(None, description="name of the default model; none: the first")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0: any free one")
    open: bool = Field(False, description="disable authentication")
    state: str = Field("serving-state", description="URI of the folder for queued, running and finished jobs")
    storage: tuple[str, ...] = Field(
        (), description="URI prefixes from which callers may name input; none: uploads only"
    )
    keep_hours: float = Field(24.0, gt=0, description="how long results are kept, in hours")
    direct_pixels: int = Field(
        500_000, ge=0, description="pixels × dates up to which a series is answered synchronously"
    )
    use_gpu: bool = Field(False, description="run the network on GPUs")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="number format of the network: fp32 or, faster on GPUs, bf16"
    )
    compile: bool = Field(
        False, description="run the network through torch.compile: a start-up of minutes, then faster on a GPU"
    )
    batch_size: Positive = Field(8, description="maximum number of windows, from any requests, in one batch")
    batch_wait: float = Field(0.02, ge=0, description="how long a window waits for a batch to fill, in seconds")
    clouds: DetectionConfig = Field(DetectionConfig(), description="cloud detection for uploads without masks")
    samplers: ReplicasConfig = ReplicasConfig()
    reconstructors: ReplicasConfig = ReplicasConfig()
    ingresses: ReplicasConfig = ReplicasConfig(cpus=0.25)
    limits: LimitsConfig = LimitsConfig()

    @model_validator(mode="after")
    def _open_on_loopback_only(self) -> ServingConfig:
        if self.open and self.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(f"open=true with host={self.host}: without authentication, listen on 127.0.0.1 only")
        return self

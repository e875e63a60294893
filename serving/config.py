"""What the endpoint serves, to whom, and how much of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from restore_dit.config.clouds import DetectionConfig
from restore_dit.config.examples import Positive, Section
from restore_dit.config.jobs import SHIPPED_MODEL
from restore_dit.data.exchange.limits import SeriesLimits

AT_ONCE = 4
"""Series that a process reconstructs at the same time."""


class LimitsConfig(Section):
    """What one request, or one caller, may ask for."""

    body_megabytes: Positive = Field(512, description="of an upload")
    side: Positive = Field(2048, description="pixels of a side")
    dates: Positive = Field(500, description="of one sensor")
    million_values: Positive = Field(400, description="dates × bands × pixels of one sensor, in millions")
    steps: Positive = Field(100, description="diffusion steps")
    parse_seconds: Positive = Field(60, description="that reading an upload may take")
    upload_seconds: Positive = Field(300, description="that sending an upload may take")
    work_seconds: Positive = Field(3600, description="that a reconstruction may take")
    requests_a_minute: Positive = Field(600, description="of one token")
    requests_a_token: Positive = Field(32, description="series of one token that are answered at the same time")
    jobs_a_token: Positive = Field(8, description="reconstructions of one token that wait or run")
    queue: Positive = Field(64, description="reconstructions that wait or run, of all tokens; more are asked to wait")

    @property
    def series(self) -> SeriesLimits:
        """Those of a series."""
        return SeriesLimits(self.side, self.dates, self.million_values * 1_000_000)


class ReplicasConfig(Section):
    """Processes of one kind: as many as the queue calls for."""

    least: int = Field(1, ge=0, description="0: none while nobody asks")
    most: Positive = 1
    cpus: float = Field(0.5, ge=0, description="CPUs reserved for each")
    idle_seconds: float = Field(600, ge=0, description="how long there are more than the queue calls for")


class ServingConfig(Section):
    """The endpoint."""

    models: str = Field(
        SHIPPED_MODEL,
        description="URI of a model directory, or of a folder of such, each served by its name",
    )
    default_model: str | None = Field(None, description="its name; none: the first")
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    open: bool = Field(False, description="ask nobody for a token")
    state: str = Field("serving-state", description="URI of the folder for reconstructions that wait, run and are done")
    storage: tuple[str, ...] = Field((), description="URIs below which callers may name input; none: uploads only")
    keep_hours: float = Field(24.0, gt=0, description="how long results are kept")
    direct_pixels: int = Field(
        500_000, ge=0, description="pixels × dates up to which a reconstruction is answered directly"
    )
    use_gpu: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = Field(False, description="torch.compile the network: minutes at first, then faster on a GPU")
    batch_size: Positive = Field(8, description="windows, of any requests, that go through the network at once")
    batch_wait: float = Field(0.02, ge=0, description="seconds that a window waits for others")
    clouds: DetectionConfig = Field(DetectionConfig(), description="what finds clouds where an upload has no masks")
    samplers: ReplicasConfig = ReplicasConfig()
    reconstructors: ReplicasConfig = ReplicasConfig()
    ingresses: ReplicasConfig = ReplicasConfig(cpus=0.25)
    limits: LimitsConfig = LimitsConfig()

    @model_validator(mode="after")
    def _loopback_or_asked(self) -> ServingConfig:
        if self.open and self.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(f"open=true with host={self.host}: without tokens it listens on 127.0.0.1 only")
        return self

"""The typed, frozen configuration tree of a run."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from restore_dit.config.examples import DataConfig, Fraction, Positive, SamplerName, Section
from restore_dit.config.settings import NEEDS_SECTION
from restore_dit.series import MIN_BANDS, S2_BANDS


class ModelConfig(Section):
    """The denoiser's size and inputs. Settings marked patches or pixels apply to that network only."""

    network: Literal["patches", "pixels"] = Field(
        "patches",
        description="patches: the published network; pixels: attends over the dates of single pixels, with "
        "predictions from kriging and from the frame's visible pixels as input",
    )
    bands: tuple[str, ...] = Field(
        S2_BANDS, description="optical bands in the network's order; if empty, those that every tile of the store has"
    )
    radar_channels: tuple[Literal["VV", "VH", "VV-VH"], ...] = Field(
        ("VV", "VH", "VV-VH"), description="if empty, no radar"
    )
    patch_size: Positive = Field(4, description="patches: side length of a token in pixels")
    nearest: Positive = Field(4, description="pixels: number of observed dates on either side that a date attends to")
    members: Positive = Field(
        1,
        description="pixels: ensemble size; each network starts from its own initial weights, and their outputs are "
        "averaged",
    )
    hidden_size: Positive = Field(256, description="features of a token, a multiple of 4 and of heads")
    depth: Positive = Field(4, description="number of blocks")
    heads: Positive = Field(4, description="attention heads")
    mlp_ratio: float = Field(4.0, gt=0, description="hidden features of a block's MLP, as a multiple of hidden_size")
    use_dates: bool = Field(True, description="patches: embed acquisition dates; otherwise frame indices")
    radar_attention: Literal["paired", "own_dates"] = Field(
        "own_dates",
        description="patches: paired: one radar frame per optical frame, as published; own_dates: any number",
    )
    gap_channel: bool = Field(True, description="patches: give the gap mask to the network as an input channel")
    anchor: Literal["none", "linear"] = Field(
        "linear",
        description="patches: what the network's output is added to: nothing, or linear interpolation between dates",
    )

    @property
    def any_bands(self) -> bool:
        """Whether a series may lack some of the bands."""
        return self.network == "pixels"

    @property
    def predicts_uncertainty(self) -> bool:
        """Whether the network predicts a standard deviation for each value."""
        return self.network == "pixels"

    def bands_of(self, available: Collection[str]) -> tuple[str, ...]:
        """The bands of a series that the network fills, in the network's order: those available if it accepts any
        bands, otherwise all of its bands.

        Raises:
            ValueError: the series lacks bands that the network needs.
        """
        had = tuple(band for band in self.bands if band in available)
        if self.any_bands and len(had) < MIN_BANDS:
            found = ", ".join(had) or "none"
            raise ValueError(f"the model needs at least {MIN_BANDS} of {', '.join(self.bands)}; the series has {found}")
        if not self.any_bands and len(had) < len(self.bands):
            missing = ", ".join(band for band in self.bands if band not in had)
            raise ValueError(f"the model needs {missing}, which the series lacks")
        return had

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelConfig:
        if self.hidden_size % self.heads or self.hidden_size % 4:
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of 4 and of heads {self.heads}")
        return self


class DiffusionConfig(Section):
    """Noise schedule, objective and sampler."""

    schedule: Literal["linear", "scaled_linear", "cosine", "sigmoid", "straight"] = Field(
        "linear", description="noise schedule; straight: the straight path of rectified flow"
    )
    steps: int = Field(
        1000, ge=2, description="number of steps of the noise schedule", json_schema_extra={NEEDS_SECTION: True}
    )  # `--steps 3000` would be taken for the length of the training
    beta_start: float = Field(1e-4, gt=0, lt=1, description="variance of the first step; unused by cosine and straight")
    beta_end: float = Field(0.02, gt=0, lt=1, description="variance of the last step; unused by cosine and straight")
    zero_terminal_snr: bool = Field(False, description="rescale the schedule so that its last step is pure noise")
    prediction: Literal["x0", "epsilon", "v", "flow"] = Field(
        "x0",
        description="what the network predicts: the clean series, the noise, the velocity (a mixture of both), or "
        "the flow",
    )
    loss_over: Literal["all", "missing"] = Field(
        "missing",
        description="number of elements that the squared error of missing pixels is divided by: all, or the missing "
        "ones",
    )
    loss_weighting: Literal["uniform", "min_snr"] = Field(
        "uniform", description="weight of each step's error; min_snr: the signal-to-noise ratio, capped"
    )
    min_snr_gamma: float = Field(5.0, gt=0, description="cap of min_snr")
    timestep_sampling: Literal["uniform", "logit_normal"] = Field(
        "uniform",
        description="distribution of the diffusion steps in training; logit_normal: concentrated around one part of "
        "the schedule",
    )
    logit_mean: float = Field(
        0.0, description="logit_normal: location; 0: the middle of the schedule, above 0: noisier"
    )
    logit_std: float = Field(1.0, gt=0, description="logit_normal: width")
    sampled_share: Fraction = Field(
        0.0,
        description="share of training examples at steps that the sampler visits; the others follow timestep_sampling",
    )
    sampler: SamplerName = Field("dpm_solver_pp", description="default sampler; euler: for schedule straight only")
    sampling_steps: Positive = Field(1, description="default number of diffusion steps of the sampler")

    @model_validator(mode="after")
    def _possible(self) -> DiffusionConfig:
        straight = self.schedule == "straight"
        if (self.beta_start >= self.beta_end) and self.schedule not in ("cosine", "straight"):
            raise ValueError(f"beta_start {self.beta_start:g} must be below beta_end {self.beta_end:g}")
        if straight and self.zero_terminal_snr:
            raise ValueError("schedule 'straight' already ends in pure noise; remove zero_terminal_snr")
        if self.prediction == "flow" and not straight:
            raise ValueError(f"prediction 'flow' needs schedule 'straight', not '{self.schedule}'")
        if straight and self.prediction not in ("flow", "x0"):
            raise ValueError(f"schedule 'straight' needs prediction 'flow' or 'x0', not '{self.prediction}'")
        if self.prediction == "epsilon" and self.zero_terminal_snr:
            raise ValueError(
                "prediction 'epsilon' is impossible with zero_terminal_snr: where the input is pure noise, predicting "
                "the noise determines nothing about the series; use prediction 'v' or 'x0'"
            )
        if self.loss_weighting == "min_snr" and (straight or self.zero_terminal_snr):
            raise ValueError(
                "loss_weighting 'min_snr' gives zero weight to pure noise, where sampling begins; use 'uniform' "
                "with zero_terminal_snr or schedule 'straight'"
            )
        self.require_sampler(self.sampler)
        return self

    def require_sampler(self, sampler: str) -> None:
        """Raises `ValueError` if this sampler does not support the schedule."""
        if sampler == "euler" and self.schedule != "straight":
            raise ValueError(f"sampler 'euler' needs schedule 'straight', not '{self.schedule}'")


class OptimiserConfig(Section):
    """AdamW, its learning-rate schedule, and the moving average of the weights."""

    learning_rate: float = Field(2e-4, gt=0, description="peak learning rate, after warm-up")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay (AdamW)")
    warmup_steps: int = Field(100, ge=0, description="steps over which the learning rate rises")
    decay: Literal["none", "cosine", "halve_at_epochs"] = Field(
        "cosine", description="how the learning rate falls after warm-up"
    )
    halve_at: tuple[int, ...] = Field((), description="epochs at which halve_at_epochs halves the learning rate")
    gradient_clip: float | None = Field(1.0, gt=0, description="maximum norm of the gradient; if unset, no clipping")
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.999, description="decay of the moving average of the weights; 0: off"
    )


class TrainingConfig(Section):
    """How the training runs."""

    init_from: str | None = Field(None, description="URI of a model directory whose weights the run starts from")
    epochs: Positive = Field(100, description="passes over the training tiles")
    batch_size: Positive = Field(16, description="examples per optimiser step, over all workers")
    micro_batch_size: Positive | None = Field(
        None,
        description="examples per forward pass on one worker; if unset, batch_size / workers, without gradient "
        "accumulation",
    )
    optimiser: OptimiserConfig = OptimiserConfig()
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="number format of training: fp32, or bf16 with fp32 copies of the weights"
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(
        0,
        description="what is sharded over the workers: 0: nothing; 1 to 3, by DeepSpeed: the optimiser state; from 2 "
        "gradients too; 3 weights too",
    )
    offload_optimiser: bool = Field(False, description="keep the optimiser state in host memory (ZeRO 1-3 on GPUs)")
    activation_checkpointing: bool = Field(
        False, description="patches: recompute activations in the backward pass, to save memory"
    )
    compile: bool = Field(False, description="compile the denoiser with torch.compile")
    validate_every: Positive = Field(100, description="steps between validations")
    validation_examples: Positive = Field(64, description="number of validation examples")
    save_every: Positive = Field(100, description="steps between saves of the resume state")
    log_every: Positive = Field(10, description="steps between log lines")
    log_examples: bool = Field(
        True, description="log (tile, draw, weight) of the examples of every step, per rank, in the run's folder"
    )

    @model_validator(mode="after")
    def _micro_batches(self) -> TrainingConfig:
        if self.offload_optimiser and self.zero_stage == 0:
            raise ValueError("offload_optimiser needs zero_stage 1, 2 or 3")
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of micro_batch_size {self.micro_batch_size}"
            )
        return self


class WorkersConfig(Section):
    """The processes that train; with `count` 0, the current process, without Ray."""

    count: int = Field(0, ge=0, description="number of workers; 0: this process, without Ray")
    use_gpu: bool = Field(False, description="one GPU per worker")
    cpus_each: float = Field(1.0, gt=0, description="CPUs reserved per worker; leave some for the data stream")
    data_cpus: float = Field(
        0.5,
        gt=0,
        description="CPUs reserved per task that reads and cuts tiles; two tasks per core hide the time between tasks",
    )
    spread: bool = Field(
        False,
        description="distribute workers over different nodes where possible; otherwise pack them on as few as possible",
    )
    wait_minutes: float | None = Field(
        None,
        ge=0,
        description="maximum wait for CPUs and GPUs; if unset, 30 minutes where they are in use or an autoscaler "
        "can add them, and no wait for resources that the cluster cannot provide",
    )
    max_failures: int = Field(2, ge=0, description="number of worker-group failures tolerated before the run fails")


class TrackingConfig(Section):
    """Experiment tracking in addition to the run's own logs."""

    mlflow: str | None = Field(None, description="address of an MLflow server, such as https://mlflow.example.org")
    experiment: str = Field("restore-dit", min_length=1, description="name of the experiment that the runs belong to")

    @model_validator(mode="after")
    def _without_secrets(self) -> TrackingConfig:
        # Validates the section, not the key: an error of the key would show the address.
        address = urlsplit(self.mlflow or "")
        if address.username or address.password or address.query:
            raise ValueError(
                "mlflow's address must not contain credentials; set MLFLOW_TRACKING_TOKEN, or "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        return self


class RunConfig(Section):
    """The whole configuration of a run, restored from the file saved with its model."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the run")
    output: str = Field("runs", description="URI of the folder for runs; this run is written to output/name")
    seed: int = Field(0, description="seed of the initial weights, the split and the examples")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    training: TrainingConfig = TrainingConfig()
    workers: WorkersConfig = WorkersConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _fits_network(self) -> RunConfig:
        data, radar = self.data, self.data.radar
        if self.model.network == "pixels":
            if self.diffusion.prediction != "x0":
                raise ValueError(f"model.network 'pixels' predicts x0, not '{self.diffusion.prediction}'")
            if self.training.activation_checkpointing:
                raise ValueError("training.activation_checkpointing needs model.network 'patches'")
            if self.training.compile:
                raise ValueError("training.compile needs model.network 'patches'")
            if not data.mask_padding:
                raise ValueError("model.network 'pixels' needs data.mask_padding")
            return self
        for key, is_set in {
            "data.pixels": data.pixels is not None,
            "data.band_dropout": bool(data.band_dropout),
            "data.radar.track both": radar is not None and radar.track == "both",
        }.items():
            if is_set:
                raise ValueError(f"{key} needs model.network 'pixels'")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        if self.model.network == "patches" and self.data.crop and self.data.crop % self.model.patch_size:
            raise ValueError(
                f"data.crop {self.data.crop} must be a multiple of model.patch_size {self.model.patch_size}"
            )
        if self.model.radar_channels and self.data.radar is None:
            raise ValueError("model.radar_channels needs data.radar; for a model without radar, set it to []")
        if self.data.radar and (self.model.radar_attention == "paired") != (self.data.radar.pairing == "nearest_date"):
            raise ValueError(
                "model.radar_attention 'paired' and data.radar.pairing 'nearest_date' must be used together"
            )
        workers = max(self.workers.count, 1)
        micro = self.training.micro_batch_size
        if self.training.batch_size % (workers * (micro or 1)):
            each = f" times training.micro_batch_size {micro}" if micro else ""
            raise ValueError(
                f"training.batch_size {self.training.batch_size} must be a multiple of workers.count {workers}{each}"
            )
        return self

    @property
    def micro_batch_size(self) -> int:
        """Examples per forward pass on one worker."""
        return self.training.micro_batch_size or self.training.batch_size // max(self.workers.count, 1)

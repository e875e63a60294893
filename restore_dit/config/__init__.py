"""The run configuration: a typed tree, presets, and loading from YAML and `key=value`."""

from restore_dit.config.examples import (
    DataConfig,
    GapConfig,
    MaskErrorConfig,
    RadarConfig,
    SamplerName,
    Section,
    SplitConfig,
    TargetConfig,
)
from restore_dit.config.loading import dump, load, shipped
from restore_dit.config.presets import PRESETS, default, paper, tiny
from restore_dit.config.tree import (
    DiffusionConfig,
    ModelConfig,
    OptimiserConfig,
    RunConfig,
    TrackingConfig,
    TrainingConfig,
    WorkersConfig,
)

__all__ = [
    "PRESETS",
    "DataConfig",
    "DiffusionConfig",
    "GapConfig",
    "MaskErrorConfig",
    "ModelConfig",
    "OptimiserConfig",
    "RadarConfig",
    "RunConfig",
    "SamplerName",
    "Section",
    "SplitConfig",
    "TargetConfig",
    "TrackingConfig",
    "TrainingConfig",
    "WorkersConfig",
    "default",
    "dump",
    "load",
    "paper",
    "shipped",
    "tiny",
]

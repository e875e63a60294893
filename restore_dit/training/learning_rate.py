"""The learning-rate schedule."""

from __future__ import annotations

import math

from restore_dit.config import OptimiserConfig


def learning_rate(step: int, *, steps_per_epoch: int, total_steps: int, config: OptimiserConfig) -> float:
    """Learning rate of optimiser step `step` (from 0): linear warm-up, then the configured decay."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    if config.decay == "cosine":
        progress = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    if config.decay == "halve_at_epochs":
        return config.learning_rate * 0.5 ** sum(step // steps_per_epoch >= epoch for epoch in config.halve_at)
    return config.learning_rate

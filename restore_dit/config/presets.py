"""Presets: functions that return a complete configuration to start from."""

from __future__ import annotations

from collections.abc import Callable

from restore_dit.config.examples import DataConfig, GapConfig, RadarConfig, SplitConfig
from restore_dit.config.tree import DiffusionConfig, ModelConfig, OptimiserConfig, RunConfig, TrainingConfig


def paper() -> RunConfig:
    """The published method, reproduced exactly (Shu et al. 2025) including its weaknesses, for any store. For
    PASTIS-R, the shipped `paper_pastis` also selects its targets by the published list."""
    return RunConfig(
        name="paper",
        data=DataConfig(
            frames=15,
            date_rounding=10,
            mask_padding=False,
            radar=RadarConfig(track="S1A", pairing="nearest_date", frames=35, statistics="mean_of_folds"),
            split=SplitConfig(by="folds", test_folds=(5,), validation_fraction=0.0),
        ),
        model=ModelConfig(radar_attention="paired", gap_channel=False, anchor="none"),
        diffusion=DiffusionConfig(loss_over="all"),
        training=TrainingConfig(
            epochs=3000,
            batch_size=16,
            optimiser=OptimiserConfig(
                learning_rate=2e-4,
                warmup_steps=0,
                decay="halve_at_epochs",
                halve_at=(100, 500, 1000, 1500, 2500),
                gradient_clip=None,
                ema_decay=0.0,
            ),
        ),
    )


def default() -> RunConfig:
    """The best gap filling at places unseen in training: a pixel network that accepts any three or more bands and any
    radar, trained on simulated tiles of many places (`restore-dit simulate … varied=true`) with augmentation that
    covers how users' series vary."""
    return RunConfig(
        name="default",
        data=DataConfig(
            frames=40,
            crop=24,
            examples_per_tile=4,
            flips=True,
            partly_clear=0.4,
            least_kept=0.25,
            band_dropout=0.45,
            coarser=0.4,
            gain=0.15,
            truly_clear=True,
            pixels=40,
            radar=RadarConfig(track="both", pairing="own_dates", frames=80, dropout=0.3),
            gaps=GapConfig(frame_dropout=0.15, frames_only=0.2, runs=0.15, partial=0.25, mask_flips=True, dilation=2),
            split=SplitConfig(test_fraction=0.05, validation_fraction=0.05),
        ),
        model=ModelConfig(
            network="pixels",
            members=2,
            radar_channels=("VV", "VH"),
            hidden_size=64,
            depth=2,
            heads=4,
            mlp_ratio=2.0,
        ),
        diffusion=DiffusionConfig(sampled_share=0.8),
        training=TrainingConfig(
            epochs=6,
            batch_size=8,
            optimiser=OptimiserConfig(
                learning_rate=2e-3, weight_decay=0.05, warmup_steps=60, gradient_clip=0.5, ema_decay=0.995
            ),
            validate_every=360,
            save_every=180,
        ),
    )


def tiny() -> RunConfig:
    """The published network, small enough to train on two CPU cores in minutes, with additions to the paper: radar at
    its own dates, the gap mask as an input, interpolation as a starting point, EMA, warm-up, gradient clipping and
    augmentation."""
    return RunConfig(
        name="tiny",
        data=DataConfig(
            frames=10,
            crop=32,
            examples_per_tile=2,
            flips=True,
            radar=RadarConfig(pairing="own_dates", frames=12, dropout=0.1),
            gaps=GapConfig(frame_dropout=0.1, mask_flips=True, dilation=2),
        ),
        model=ModelConfig(hidden_size=64, depth=2, heads=2),
        diffusion=DiffusionConfig(sampled_share=0.8),
        training=TrainingConfig(
            epochs=120,
            batch_size=8,
            optimiser=OptimiserConfig(learning_rate=1e-3, warmup_steps=20, ema_decay=0.98),
            validate_every=80,
            save_every=160,
            validation_examples=16,
        ),
    )


PRESETS: dict[str, Callable[[], RunConfig]] = {"paper": paper, "default": default, "tiny": tiny}

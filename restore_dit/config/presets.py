"""Presets: functions that give a whole configuration to start from."""

from __future__ import annotations

from collections.abc import Callable

from restore_dit.config.tree import (
    DataConfig,
    DiffusionConfig,
    GapConfig,
    ModelConfig,
    OptimiserConfig,
    RadarConfig,
    RunConfig,
    SplitConfig,
    TrainingConfig,
)


def paper() -> RunConfig:
    """The published method to the letter (spec sections 1-3), its weaknesses included, on any store; on PASTIS-R the
    shipped `paper_pastis` takes its targets by the published list, too."""
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
    """The same network with what the paper left out: radar at its own dates, the gap mask as an input, an
    interpolation to start from, wider cloud masks, EMA, warm-up, clipping, augmentation, bf16 with fp32 masters."""
    return RunConfig(
        name="default",
        data=DataConfig(
            frames=15,
            flips=True,
            radar=RadarConfig(pairing="own_dates", frames=24, dropout=0.1),
            gaps=GapConfig(frame_dropout=0.1, mask_flips=True, dilation=2),
        ),
        diffusion=DiffusionConfig(sampled_share=0.5),
        training=TrainingConfig(epochs=1000, batch_size=16, precision="bf16"),
    )


def tiny() -> RunConfig:
    """A network small enough to train on two CPU cores in minutes: for the quickstart and for tests."""
    base = default()
    return base.model_copy(
        update={
            "name": "tiny",
            "data": base.data.model_copy(
                update={
                    "frames": 10,
                    "crop": 32,
                    "examples_per_tile": 2,
                    "radar": RadarConfig(pairing="own_dates", frames=12, dropout=0.1),
                }
            ),
            "model": ModelConfig(hidden_size=64, depth=2, heads=2),
            "diffusion": DiffusionConfig(sampled_share=0.8),
            "training": TrainingConfig(
                epochs=120,
                batch_size=8,
                optimiser=OptimiserConfig(learning_rate=1e-3, warmup_steps=20, ema_decay=0.98),
                validate_every=80,
                save_every=160,
                validation_examples=16,
            ),
        }
    )


PRESETS: dict[str, Callable[[], RunConfig]] = {"paper": paper, "default": default, "tiny": tiny}

"""Labelled tiles that a test learns from in seconds."""

from collections.abc import Callable

import pytest

from restore_dit.config.cloud_training import CloudTrainingConfig
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation import simulate_tiles
from restore_dit.data.store.tile_store import TileStore, TileStoreWriter


@pytest.fixture(scope="session")
def cloud_store(tmp_path_factory: pytest.TempPathFactory) -> TileStore:
    """Eight simulated tiles of 32×32 pixels over half a year, with the true masks."""
    folder = tmp_path_factory.mktemp("clouds") / "sim"
    writer = TileStoreWriter(folder, source="simulation")
    config = SimulationConfig(height=32, width=32, days=180, mask_errors=0, radar_tracks=(), cloudiness_spread=0.0)
    for series in simulate_tiles(config, 11, range(8)):
        writer.add(series)
    writer.commit()
    return TileStore.open(folder)


@pytest.fixture(scope="session")
def training(cloud_store: TileStore, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., CloudTrainingConfig]:
    """A configuration on `cloud_store` that a CPU steps through fast, with changes; each has an output of its own."""

    def build(**changes: object) -> CloudTrainingConfig:
        values = {
            "stores": (cloud_store.uri,),
            "output": str(tmp_path_factory.mktemp("training") / "model"),
            "steps": 8,
            "batch_size": 4,
            "crop": 32,
            "validation": {"every": 4, "frames": 20},
            "save_every": 3,
            "log_every": 2,
            "threads": 1,
        }
        return CloudTrainingConfig.model_validate(values | changes)

    return build

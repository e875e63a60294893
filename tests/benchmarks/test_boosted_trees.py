"""Boosted trees as a method: what they learn, and that a seed says all of it."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import boosted_trees
from benchmarks.boosted_trees import fit_trees
from restore_dit.config import DataConfig
from restore_dit.config.jobs import EvaluationConfig
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.examples.maker import ExampleMaker
from restore_dit.data.simulation import simulate_tiles
from restore_dit.data.store.tile_store import TileStore, TileStoreWriter
from restore_dit.evaluation.protocols import baseline_methods, model_method, score_tile
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import S2_BANDS


@pytest.mark.slow
def test_trees_beat_kriging_on_tiles_that_they_never_saw(monkeypatch, tmp_path):
    monkeypatch.setattr(boosted_trees, "ROUNDS", 25)
    trees = fit_trees(tmp_path, 24, 5)
    assert trees.tiles == 24
    assert 24 * 100 < trees.values <= 24 * 4 * 100
    methods = baseline_methods() | {"trees": model_method(trees.model, SamplingOptions(calibrate=False))}
    config = EvaluationConfig(part="all", protocol="paper")
    store = held_out(tmp_path / "held_out")
    maker = ExampleMaker(DataConfig(), S2_BANDS, seed=0)
    results = [score_tile(methods, store.load(tile_id), maker, config) for tile_id in store.tile_ids]
    errors = {
        name: sum(frame.squared[name] for result in results for frame in result.frames)
        for name in ("trees", "kriging", "linear")
    }
    assert errors["trees"] < 0.95 * min(errors["kriging"], errors["linear"])


@pytest.mark.slow
def test_a_seed_says_all_of_it(monkeypatch, tmp_path):
    monkeypatch.setattr(boosted_trees, "ROUNDS", 2)
    first, again, other = (fit_trees(tmp_path / name, 2, seed) for name, seed in (("a", 5), ("b", 5), ("c", 6)))
    store = held_out(tmp_path / "held_out", tiles=1)
    series = store.load(store.tile_ids[0]).series()
    frames, gaps = np.arange(6), np.zeros((6, *series.size), bool)
    gaps[3] = True
    options = SamplingOptions(calibrate=False)
    filled = [model_method(trees.model, options)(series, frames, gaps).values for trees in (first, again, other)]
    np.testing.assert_array_equal(filled[0], filled[1])
    assert (filled[0][3] != filled[2][3]).any()
    assert filled[0].min() >= 0
    assert filled[0].max() <= 1


def held_out(folder: Path, tiles: int = 4) -> TileStore:
    writer = TileStoreWriter(folder)
    for series in simulate_tiles(SimulationConfig(height=24, width=24, varied=True), 9, range(tiles)):
        writer.add(series)
    writer.commit()
    return TileStore.open(folder)

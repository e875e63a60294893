"""Tiles that draw their own settings."""

from __future__ import annotations

import numpy as np
import pytest

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation import simulate_landcover, simulate_tile
from restore_dit.data.simulation.simulator import varied
from restore_dit.data.store.masks import TRUE_CLOUDS, TRUTH
from restore_dit.data.store.tile_store import TileStore
from restore_dit.data.store.tile_store_writer import TileStoreWriter

CONFIG = SimulationConfig(height=16, width=20, days=200, varied=True, radar_tracks=("S1A",), frame_offsets=0.5)


def test_settings_differ_from_tile_to_tile_within_what_was_configured():
    drawn = [varied(CONFIG, np.random.default_rng(seed)) for seed in range(40)]
    assert len({one.latitude for one in drawn}) == 40
    assert all(36 <= one.latitude <= 61 and 70 <= one.days <= 200 for one in drawn)
    offsets = np.array([one.frame_offsets for one in drawn])
    assert 0.025 <= offsets.min() < 0.1
    assert 0.35 < offsets.max() <= 0.5
    assert all(0.1 <= one.registration_error <= 0.8 for one in drawn)
    assert {(one.height, one.width, one.radar_tracks) for one in drawn} == {(16, 20, ("S1A",))}
    north, south = ([one.january for one in drawn if (one.latitude > 50) == cold] for cold in (True, False))
    assert np.mean(north) < np.mean(south)
    assert all(one.summer_drought == 0 for one in drawn if one.latitude > 50)
    assert max(one.summer_drought for one in drawn) > 0.8
    assert np.corrcoef([one.latitude for one in drawn], [one.season_lead for one in drawn])[0, 1] < -0.8
    mottle = [one.mottle for one in drawn]
    assert 0 <= min(mottle) < 0.05
    assert 0.5 < max(mottle) <= 0.7


@pytest.mark.parametrize("index", range(4))
def test_a_tile_brings_its_true_masks_and_its_land(index: int):
    tile, again = simulate_tile(CONFIG, 2, index), simulate_tile(CONFIG, 2, index)
    np.testing.assert_array_equal(tile.optical.values, again.optical.values)
    truth = tile.other_clouds[TRUTH]
    ground = simulate_tile(CONFIG, 2, index, clouds=False)
    assert ground.other_clouds == {}
    same = (tile.optical.values == ground.optical.values).all(axis=1)
    assert same[truth == 0].all()
    assert (tile.clouds == 0)[~same].any() or same.all()  # the detector's masks err
    assert simulate_landcover(CONFIG, 2, index).classes.shape == (16, 20)


def test_a_store_keeps_the_true_masks_apart_from_those_in_use(tmp_path):
    writer = TileStoreWriter(tmp_path / "store", source="simulation")
    tile = simulate_tile(CONFIG, 2, 0)
    writer.add(tile)
    writer.commit()
    stored = TileStore.open(tmp_path / "store").load(tile.tile_id, layers=("clouds", TRUE_CLOUDS))
    np.testing.assert_array_equal(stored.clouds.decode(), tile.clouds)
    np.testing.assert_array_equal(stored.true_clouds.decode(), tile.other_clouds[TRUTH])

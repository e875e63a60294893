from dataclasses import replace

import pytest

from restore_dit.config import RunConfig, TargetConfig
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation import simulate_tiles
from restore_dit.data.store.tile_store import TileStoreWriter
from restore_dit.errors import UserError
from restore_dit.series import S2_BANDS, Acquisitions
from restore_dit.training.setup import set_up
from tests.messages import refused


def changed(config: RunConfig, section: str, **values) -> RunConfig:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def test_what_a_store_lacks_is_said_before_anything_starts(small_run):
    with pytest.raises(UserError, match=r"tile sim-3-\d+ .*B01.*'model\.bands=\[B02\]'"):
        set_up(changed(small_run, "model", bands=("B01", "B02")))
    with refused("24×24", "data.crop=64"):
        set_up(changed(small_run, "data", crop=64))
    radar = small_run.data.radar.model_copy(update={"track": "S1X"})
    with refused("S1X", "data.radar.track", "S1A, S1D"):
        set_up(changed(small_run, "data", radar=radar))


def test_tiles_without_a_clear_frame_are_left_out_and_named(small_run, small_store):
    shares = {tile: max(record.clouds.clear_pixels) / (24 * 24) for tile, record in small_store.manifest.tiles.items()}
    everything = set_up(small_run)
    assert everything.left_out == ()
    strict = set_up(changed(small_run, "data", targets=TargetConfig(most_hidden=0, most_no_data=0)))
    expected = {tile for tile in everything.split.train if shares[tile] < 1}
    assert set(strict.left_out) == expected
    assert set(strict.plan.tile_ids) == set(everything.split.train) - expected


def test_the_normalisation_is_that_of_the_training_tiles(small_run, small_store):
    import numpy as np

    setup = set_up(small_run)
    vh = np.concatenate(
        [small_store.load(tile).radar["S1A"].decode(bands=("VH",)).ravel() for tile in setup.split.train]
    )
    assert setup.normalisation.radar_mean[1] == pytest.approx(vh.mean() / 100, abs=1e-3)
    assert setup.normalisation.radar_std[1] == pytest.approx(vh.std() / 100, abs=1e-3)
    radar = small_run.data.radar.model_copy(update={"statistics": "mean_of_folds"})
    by_fold = set_up(changed(small_run, "data", radar=radar)).normalisation
    assert by_fold.radar_mean != setup.normalisation.radar_mean
    assert by_fold.radar_mean == pytest.approx(setup.normalisation.radar_mean, abs=1)


def test_bands_left_open_are_those_of_the_store(small_run, tmp_path):
    writer = TileStoreWriter(tmp_path / "store")
    for series in simulate_tiles(SimulationConfig(height=16, width=16, days=60), 1, range(9)):
        optical = Acquisitions(series.optical.values[:, 3:6].copy(), series.optical.dates, S2_BANDS[3:6])
        writer.add(replace(series, optical=optical))
    writer.commit()
    config = changed(small_run, "data", store=str(tmp_path / "store"), targets=TargetConfig(most_hidden=0.5))
    assert set_up(changed(config, "model", bands=())).config.model.bands == ("B05", "B06", "B07")
    assert set_up(small_run).config.model.bands == S2_BANDS


def test_tiles_of_unequal_size_need_a_crop(small_run, tmp_path):
    writer = TileStoreWriter(tmp_path, source="simulation")
    for index, side in enumerate((16, 24)):
        config = SimulationConfig(height=side, width=side, days=220, field_hectares=0.8)
        for series in simulate_tiles(config, 3, range(4 * index, 4 * index + 4)):
            writer.add(series)
    writer.commit()
    mixed = changed(small_run, "data", store=str(tmp_path))
    set_up(mixed)
    with refused(str(tmp_path), "16×16, 24×24", "data.crop"):
        set_up(changed(mixed, "data", crop=None))

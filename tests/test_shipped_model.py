"""The model that comes with the package: it is there, and better than kriging on ground that it has not seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.examples.normalisation import OPTICAL_CEILING, Normalisation
from restore_dit.data.simulation import simulate_tile
from restore_dit.evaluation.baselines import fill as baseline
from restore_dit.model.denoiser import Denoiser
from restore_dit.reconstruction.gap_free import fill_gaps
from restore_dit.reconstruction.model_description import locate_model
from restore_dit.reconstruction.model_directory import Model, load_model, save_model
from restore_dit.reconstruction.reconstruct import reconstruct
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import S2_BANDS, days_since_origin


@pytest.fixture(scope="module")
def shipped() -> Model:
    return load_model("default")


def test_it_is_small_and_says_what_it_is(shipped: Model):
    folder = Path(locate_model("default").path)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 10_000_000
    assert shipped.config.model.bands == S2_BANDS
    assert shipped.training_data is not None
    assert len(shipped.training_data.tiles) > 500
    card = (folder / "README.md").read_text()
    assert all(word in card for word in ("MIT", "simulated", "dB"))
    assert not any(text.startswith(("/", "file:")) for text in (shipped.config.data.store, shipped.config.output))


def test_bright_snow_is_filled_as_bright_as_it_is(shipped: Model):
    snow = 11_000
    tile = simulate_tile(SimulationConfig(height=16, width=16), 3, 0)
    assert tile.clouds is not None
    frames = np.arange(24)
    values, clouds = tile.optical.values[frames].copy(), np.zeros_like(tile.clouds[frames])
    values[6:15] = snow
    clouds[[8, 11], :, 4:] = clouds[12] = 1
    optical = replace(tile.optical, values=values, dates=tile.optical.dates[frames])
    filled = fill_gaps(shipped, replace(tile, optical=optical, clouds=clouds), SamplingOptions())
    hidden = filled.gap_mask & ((frames >= 8) & (frames <= 12))[:, None, None]
    assert hidden.sum() > 500
    errors = filled.series.optical.values.swapaxes(0, 1)[:, hidden] - snow
    assert np.abs(errors).max() < 0.03 * snow


@pytest.mark.slow
def test_it_beats_kriging_on_tiles_of_another_seed(shipped: Model):
    config = SimulationConfig(height=32, width=32, varied=True, mask_errors=0)
    gains = []
    for index in range(6):
        tile = simulate_tile(config, 987_654, index)
        assert tile.clouds is not None
        frames = np.flatnonzero((tile.clouds == 0).mean(axis=(1, 2)) > 0.95)
        if len(frames) < 8:
            continue
        gaps = np.zeros((len(frames), 32, 32), bool)
        gaps[::4] = True  # whole frames
        gaps[1::4, :, :20] = True  # parts of frames
        truth = tile.optical.values[frames].clip(0, OPTICAL_CEILING) / OPTICAL_CEILING
        hidden = (gaps & (tile.clouds[frames] == 0))[:, None].repeat(10, axis=1)
        days = days_since_origin(tile.optical.dates[frames])
        unknown = gaps | (tile.clouds[frames] != 0)
        by_kriging = baseline("kriging_offset", truth.astype(np.float32), unknown, days)
        by_model = reconstruct(shipped, tile, frames, gaps, SamplingOptions(mask_dilation=0))
        errors = [np.square(estimate - truth)[hidden].mean() for estimate in (by_kriging, by_model)]
        gains.append(10 * np.log10(errors[0] / errors[1]))
    assert len(gains) >= 3
    assert np.mean(gains) > 0.5


def test_a_folder_of_its_name_comes_first(tmp_path, monkeypatch, small_run):
    monkeypatch.chdir(tmp_path)
    assert locate_model("default").path.endswith("restore_dit/models/default")
    save_model("default", small_run, Denoiser(small_run.model).state_dict(), Normalisation(), {})
    assert locate_model("default").path == str(tmp_path / "default")
    assert load_model("default").config == small_run

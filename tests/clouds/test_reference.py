"""The clear reference of a tile: what it finds below clouds and shadows, and what it never looks at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from restore_dit.clouds.reference import clear_reference
from restore_dit.config.simulation import climate
from restore_dit.data.simulation import simulate_tile
from restore_dit.series import REFLECTANCE_SCALE, S2_BANDS

BANDS_OF_20_M = ("B05", "B06", "B07", "B8A", "B11", "B12")
GROUND = np.array([0.04, 0.07, 0.06, 0.11, 0.28, 0.34, 0.35, 0.36, 0.21, 0.13], np.float32)

Values = NDArray[np.float32]
Dates = NDArray[np.datetime64]


def every_five_days(frames: int) -> Dates:
    return np.datetime64("2019-01-01") + 5 * np.arange(frames)


def ground(frames: int, bands: tuple[str, ...] = S2_BANDS, size: tuple[int, int] = (4, 5)) -> Values:
    """The same land on every date [T, C, H, W]."""
    spectrum = GROUND[[S2_BANDS.index(band) for band in bands]]
    return np.ascontiguousarray(np.broadcast_to(spectrum[:, None, None], (frames, len(bands), *size)))


@settings(max_examples=25)
@given(frames=st.integers(2, 40), seed=st.integers(0, 999), bands=st.sampled_from([S2_BANDS, BANDS_OF_20_M, ("B04",)]))
def test_a_frame_never_enters_its_own_reference(frames: int, seed: int, bands: tuple[str, ...]) -> None:
    generator = np.random.default_rng(seed)
    values = generator.uniform(0, 0.6, (frames, len(bands), 3, 4)).astype(np.float32)
    dates = np.datetime64("2019-01-01") + np.sort(generator.choice(400, frames, replace=False))
    frame = int(generator.integers(frames))
    expected = clear_reference(values, dates, bands)[frame]
    for other in (0.0, 1.3, np.nan):
        values[frame] = other
        np.testing.assert_array_equal(clear_reference(values, dates, bands)[frame], expected)


@settings(max_examples=25)
@given(seed=st.integers(0, 999), bands=st.sampled_from([S2_BANDS, BANDS_OF_20_M]))
def test_land_is_found_below_clouds_on_most_dates_and_shadows(seed: int, bands: tuple[str, ...]) -> None:
    generator = np.random.default_rng(seed)
    land = ground(40, bands)
    of_twelve = generator.permuted(np.tile(np.arange(40) % 12, (20, 1)), axis=1).T.reshape(40, 1, 4, 5)
    sky = np.array([2] * 6 + [1] * 5 + [0])[of_twelve]  # half of the dates cloudy, one in twelve in shadow
    values = np.where(sky == 2, land + np.float32(0.4), np.where(sky == 1, land, land * np.float32(0.4)))
    error = np.abs(clear_reference(values, every_five_days(40), bands) - land)
    assert np.median(error) < 0.005
    assert (error < 0.03).mean() > 0.94


def test_a_steady_change_is_followed_and_the_ends_do_not_overshoot() -> None:
    values = ground(30)
    values[:, 6:8] += 0.01 * np.arange(30, dtype=np.float32)[:, None, None, None]
    reference = clear_reference(values, every_five_days(30), S2_BANDS)
    np.testing.assert_allclose(reference[8:-8], values[8:-8], atol=0.01)
    assert reference.min() >= values.min() - 1e-6
    assert reference.max() <= values.max() + 1e-6


def test_pixels_without_data() -> None:
    values = ground(20)
    values[3:9, 2, 0, 0] = np.nan  # one band lacks: the pixel's date is no source
    values[:, :, 1, 1] = np.nan
    values[1:, :, 2, 2] = np.nan  # seen on a single date
    reference = clear_reference(values, every_five_days(20), S2_BANDS)
    assert np.isnan(reference[:, :, 1, 1]).all()
    assert np.isnan(reference[0, :, 2, 2]).all()
    known = np.isfinite(reference).all(axis=(0, 1))
    assert known.sum() == 18
    np.testing.assert_allclose(reference[1:6, :, 2, 2], values[:1, :, 2, 2].repeat(5, axis=0), rtol=1e-5)
    np.testing.assert_allclose(reference[:, :, known], ground(20)[:, :, known], rtol=1e-5)


def test_a_single_date_has_no_reference() -> None:
    assert np.isnan(clear_reference(ground(1), every_five_days(1), S2_BANDS)).all()


def test_pixels_do_not_see_one_another() -> None:
    values = np.random.default_rng(0).uniform(0, 0.6, (25, 10, 80, 70)).astype(np.float32)
    whole = clear_reference(values, every_five_days(25), S2_BANDS)
    part = clear_reference(np.ascontiguousarray(values[:, :, 70:, 50:]), every_five_days(25), S2_BANDS)
    np.testing.assert_allclose(whole[:, :, 70:, 50:], part, rtol=1e-5)


@pytest.mark.parametrize(("name", "worst"), [("t31tfm", 0.06), ("flanders", 0.055)])
def test_simulated_land(name: str, worst: float) -> None:
    settings_ = climate(name, mask_errors=0.0, height=32, width=32)
    tile, land = simulate_tile(settings_, 3, 1), simulate_tile(settings_, 3, 1, clouds=False)
    values = tile.optical.values.astype(np.float32) / REFLECTANCE_SCALE
    truth = land.optical.values.astype(np.float32) / REFLECTANCE_SCALE
    error = clear_reference(values, tile.optical.dates, S2_BANDS) - truth
    assert np.sqrt((error**2).mean()) < worst
    assert np.sqrt((error**2).mean()) < 0.5 * np.sqrt(((values - truth) ** 2).mean())

"""Haze that masks missed: brighter than the tile's own clear ground, whatever the ground does."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from restore_dit.config.cube_mapping import load_cube_mapping
from restore_dit.data.cubes.site_series import read_cube
from restore_dit.data.store.haze import frame_haze
from restore_dit.series import CLEAR, CLOUD_NO_DATA, NO_DATA, THICK_CLOUD, Acquisitions

FRAMES, SIDE = 24, 16


def series(bands: tuple[str, ...] = ("B02", "B03", "B04"), seed: int = 0) -> Acquisitions:
    """Ground of reflectance 0.03–0.08 that changes little, an acquisition every ten days."""
    random = np.random.default_rng(seed)
    ground = random.integers(300, 800, (len(bands), SIDE, SIDE))
    values = (ground + random.integers(-20, 21, (FRAMES, *ground.shape))).astype(np.int16)
    return Acquisitions(values, np.datetime64("2019-01-01") + 10 * np.arange(FRAMES), bands)


def clear_masks() -> NDArray[np.uint8]:
    return np.full((FRAMES, SIDE, SIDE), CLEAR, np.uint8)


@pytest.mark.parametrize("bands", [("B02", "B03", "B04"), ("B03", "B11"), ("B05", "B8A")])
def test_a_veil_over_a_third_of_a_frame_is_as_hazy_as_it_is_bright(bands: tuple[str, ...]) -> None:
    optical = series(bands)
    optical.values[7, :, : SIDE // 2] += 900
    haze = frame_haze(optical, clear_masks())
    assert haze[7] == pytest.approx(0.09, abs=0.01)
    assert all(value is not None and abs(value) < 0.01 for frame, value in enumerate(haze) if frame != 7)


def test_ploughed_ground_is_no_haze_where_the_visible_bands_tell() -> None:
    optical = series()
    optical.values[12:, 0] += 350
    optical.values[12:, 2] += 700
    assert max(value for value in frame_haze(optical, clear_masks()) if value is not None) < 0.01


def test_the_season_moves_with_the_land() -> None:
    """A slow brightening over the year is no haze at its end."""
    optical = series(("B03",))
    optical.values[:] += (np.arange(FRAMES) * 30).astype(np.int16)[:, None, None, None]
    haze = frame_haze(optical, clear_masks())
    assert haze[-1] is not None
    assert haze[-1] < 0.03  # 24 · 30 / 10000 = 0.07 over the whole of it


def test_only_clear_pixels_with_data_count() -> None:
    optical, clouds = series(), clear_masks()
    expected = frame_haze(optical, clouds)
    clouds[3], clouds[5] = THICK_CLOUD, CLOUD_NO_DATA
    optical.values[3] += 5000
    optical.values[4, :, 0] = NO_DATA
    haze = frame_haze(optical, clouds)
    assert haze[3] is None
    assert haze[5] is None
    assert haze[4] == pytest.approx(expected[4], abs=0.005)
    assert haze[6] == pytest.approx(expected[6], abs=0.005)


def test_a_tile_without_visible_bands_tells_of_no_haze() -> None:
    assert frame_haze(series(("B8A", "B11")), clear_masks()) == (None,) * FRAMES


def test_no_acquisition_no_haze() -> None:
    nothing = Acquisitions(np.empty((0, 1, 4, 4), np.int16), np.empty(0, "datetime64[D]"), ("B02",))
    assert frame_haze(nothing, np.empty((0, 4, 4), np.uint8)) == ()


def test_haze_has_four_digits_and_large_tiles_take_no_longer_than_small_ones() -> None:
    optical = series()
    large = Acquisitions(np.tile(optical.values, (1, 1, 16, 16)), optical.dates, optical.bands)
    haze = frame_haze(large, np.tile(clear_masks(), (1, 16, 16)))
    assert [round(value, 4) for value in haze if value is not None] == list(haze)


def test_little_clear_ground_between_the_points_of_the_grid_tells_of_haze_too() -> None:
    """Of 64×64 pixels every other row and column is looked at; all that is clear here lies between."""
    optical = series()
    large = Acquisitions(np.tile(optical.values, (1, 1, 4, 4)), optical.dates, optical.bands)
    large.values[7] += 900
    clouds = np.full((FRAMES, 64, 64), THICK_CLOUD, np.uint8)
    clouds[:, 11:30:2, 11:30:2] = CLEAR
    haze = frame_haze(large, clouds)
    assert haze[7] == pytest.approx(0.09, abs=0.01)
    assert all(value is not None and abs(value) < 0.01 for frame, value in enumerate(haze) if frame != 7)
    clouds[7] = THICK_CLOUD
    assert frame_haze(large, clouds)[7] is None


@given(st.integers(0, 1000))
def test_a_frame_has_haze_where_it_has_a_clear_pixel_with_data(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, 3000, (3, 2, 33, 34)).astype(np.int16)
    values[random.random(values.shape) < 0.3] = NO_DATA
    dates = np.datetime64("2019-01-01") + 5 * np.arange(3)
    clouds = np.where(random.random((3, 33, 34)) < 0.002, CLEAR, THICK_CLOUD).astype(np.uint8)
    haze = frame_haze(Acquisitions(values, dates, ("B02", "B11")), clouds)
    there = ((clouds == CLEAR) & (values != NO_DATA).all(axis=1)).any(axis=(1, 2))
    assert [one is not None for one in haze] == there.tolist()


def test_haze_that_the_scene_classification_missed_stands_out(shared: Path) -> None:
    tile = read_cube(shared / "data/sentinel_series/0000280849BAC91C", load_cube_mapping("worldcereal"))
    assert tile.clouds is not None
    haze = dict(zip(tile.optical.dates.astype(str), frame_haze(tile.optical, tile.clouds), strict=True))
    for missed in ("2018-08-19", "2018-12-17", "2018-12-22", "2019-09-13"):
        assert (haze[missed] or 0) > 0.05
    for clear in ("2018-08-04", "2019-02-15", "2019-03-22", "2019-08-24", "2019-10-28"):
        assert (haze[clear] or 0) < 0.025

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_dit.reconstruction import suspects
from restore_dit.reconstruction.suspects import LEAST_DATES, find_suspects
from restore_dit.series import DATE_ORIGIN, Acquisitions

BANDS = ("B02", "B03", "B04", "B08", "B11")
CLOUD = np.array([1.0, 0.98, 0.97, 0.96, 0.75])[:, None]
SHADE = np.array([0.40, 0.52, 0.60, 0.71, 0.80])[:, None]
VEGETATION, SOIL = np.array([0.03, 0.06, 0.04, 0.40, 0.18]), np.array([0.08, 0.11, 0.15, 0.24, 0.30])
FRAMES, SIDE = 20, 16
DAYS = np.arange(FRAMES) * 10.0
EVERYTHING = np.ones((FRAMES, SIDE, SIDE), bool)
PLACE = np.zeros((SIDE, SIDE), bool)
PLACE[4:10, 3:12] = True


def ground(seed: int, season: float = 0.3) -> np.ndarray:
    """Reflectance [n, C, H, W] of fields between vegetation and soil, whose green follows a season, with noise."""
    generator = np.random.default_rng(seed)
    green = generator.uniform(0.3, 0.7, (1, 1, SIDE, SIDE))
    green = green + season * np.sin(2 * np.pi * DAYS / 365)[:, None, None, None]
    clean = VEGETATION[:, None, None] * green + SOIL[:, None, None] * (1 - green)
    return clean * (1 + generator.normal(0, 0.02, (FRAMES, 1, 1, 1))) + generator.normal(0, 0.003, clean.shape)


def found(reflectance: np.ndarray, observed: np.ndarray = EVERYTHING) -> np.ndarray:
    dates = DATE_ORIGIN + DAYS.astype("timedelta64[D]")
    optical = Acquisitions(np.rint(reflectance * 10_000).astype(np.int16), dates, BANDS)
    return find_suspects(optical, np.arange(FRAMES), observed, BANDS)


@pytest.mark.parametrize(
    ("kind", "frame"),
    [("thick cloud", 9), ("haze", 9), ("shadow", 9), ("thick cloud", 0), ("thick cloud", FRAMES - 1), ("shadow", 0)],
)
def test_what_a_mask_missed_is_found_where_it_is(kind, frame):
    series = ground(1)
    under = series[frame][:, PLACE]
    amount = {"thick cloud": 0.6, "haze": 0.1}.get(kind)
    series[frame][:, PLACE] = under * (1 - 0.8 * SHADE) if amount is None else under + amount * (CLOUD - under)
    suspect = found(series)
    assert suspect[frame][PLACE].mean() > 0.9
    others = suspect.copy()
    others[frame, 3:11, 2:13] = False  # departures are averaged with those of the neighbours
    assert not others.any()


@pytest.mark.parametrize("frame", [0, FRAMES - 1])
def test_a_change_before_or_after_which_nothing_is_observed_is_no_suspect(frame):
    """Bright stubble on the first date, ploughed on the next, or the reverse at the end: it could be haze or shadow."""
    series = ground(9, season=0)
    series[frame][:, PLACE] = 1.7 * series[frame][:, PLACE]
    assert not found(series).any()
    series = ground(9, season=0)
    series[frame][:, PLACE] = 0.6 * series[frame][:, PLACE]
    assert not found(series).any()


def test_haze_over_a_whole_frame_is_found():
    series = ground(2)
    series[7] += 0.08 * (CLOUD[..., None] - series[7])
    suspect = found(series)
    assert suspect[7].mean() > 0.95
    assert suspect.sum() == suspect[7].sum()


@given(seed=st.integers(0, 1000), season=st.floats(0, 0.4))
@settings(max_examples=15, deadline=None)
def test_a_series_that_only_has_seasons_and_noise_has_no_suspects(seed, season):
    assert not found(ground(seed, season)).any()


@given(frame=st.integers(2, FRAMES - 2), harvested=st.booleans(), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_a_change_that_lasts_is_no_suspect(frame, harvested, seed):
    """A harvest, or snow that stays to the end, with at least two dates before and after it."""
    series = ground(seed, season=0.1)
    after = SOIL[:, None, None] if harvested else np.array([0.8, 0.8, 0.8, 0.7, 0.1])[:, None, None]
    noise = np.random.default_rng(seed).normal(0, 0.003, series[frame:].shape)
    series[frame:] = np.where(PLACE, after + noise, series[frame:])
    assert not found(series).any()


def test_few_pixels_are_no_cloud():
    series = ground(3)
    series[5, :, 8, 8:10] = 0.6
    assert not found(series).any()


def test_of_a_cloud_that_a_mask_found_nothing_is_read():
    series, observed = ground(4), EVERYTHING.copy()
    observed[5][PLACE] = False
    series[9, :, 1:6, 1:6] = 0.5
    expected = found(series, observed)
    assert expected.any()
    assert not (expected & ~observed).any()
    series[5][:, PLACE] = 0.9
    np.testing.assert_array_equal(found(series, observed), expected)


def test_too_few_dates_say_nothing_about_each_other():
    series = ground(5)
    series[1] = 0.7
    observed = EVERYTHING.copy()
    observed[LEAST_DATES - 1 :] = False
    assert not found(series, observed).any()


def test_a_clear_date_between_two_clouds_is_no_shadow():
    series = ground(6)
    for frame in (8, 10):
        series[frame] = 0.5
    suspect = found(series)
    assert suspect[[8, 10]].mean() > 0.95
    assert not suspect[9].any()


def test_other_frames_and_bands_are_not_read():
    series = ground(8)
    series[5, :, 4:12, 4:12] = 0.4
    expected = found(series)
    assert expected.any()
    more = np.full((2 * FRAMES, len(BANDS) + 1, SIDE, SIDE), 0.9)
    more[::2, [3, 1, 5, 0, 4]] = series
    dates = DATE_ORIGIN + np.repeat(DAYS, 2).astype("timedelta64[D]") + np.tile([0, 1], FRAMES)
    optical = Acquisitions(np.rint(more * 10_000).astype(np.int16), dates, ("B08", "B03", "B05", "B02", "B11", "B04"))
    frames = np.arange(0, 2 * FRAMES, 2)
    bands = [optical.bands[place] for place in (3, 1, 5, 0, 4)]
    assert bands == list(BANDS)
    np.testing.assert_array_equal(find_suspects(optical, frames, EVERYTHING, BANDS), expected)


def test_the_height_of_the_strips_changes_nothing(monkeypatch):
    series = ground(7)
    series[4, :, 5:12, 2:9] = 0.4
    series[12, :, 1:8, 6:14] *= 0.3
    expected = found(series)
    assert expected[4].any()
    assert expected[12].any()
    monkeypatch.setattr(suspects, "_STRIP", 1)
    np.testing.assert_array_equal(found(series), expected)

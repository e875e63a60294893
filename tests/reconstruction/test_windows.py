"""The windows of long series, against the published ones and as properties."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_dit.reconstruction.windows import time_windows

# Few values, so that equal shares and shares at the limit of 10 % are common.
cloud_shares = st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.1001, 0.5, 1.0]), max_size=80)


def test_equal_the_published_windows(reference):
    cases = json.loads((reference / "sliding_windows.json").read_text())
    assert len(cases) == 40
    for case in cases:
        expected = [tuple(window) for window in case["windows"]]
        assert time_windows(case["cloud_cover"], case["window"]) == expected


@given(cloud_shares, st.integers(1, 20))
def test_cover_every_frame_in_ascending_order(shares, length):
    windows = time_windows(shares, length)
    assert {frame for window in windows for frame in range(*window)} == set(range(len(shares)))
    assert all(earlier < later for earlier, later in pairwise(windows))
    assert all(later[0] <= earlier[1] for earlier, later in pairwise(windows))
    assert all(stop - start == min(length, len(shares)) for start, stop in windows)
    if shares:
        assert windows[-1][1] == len(shares)
    assert all(stop < len(shares) for _, stop in windows[:-1])


@given(cloud_shares, st.integers(4, 20))
def test_neighbours_overlap_so_that_they_can_be_joined(shares, length):
    assert all(later[0] < earlier[1] for earlier, later in pairwise(time_windows(shares, length)))


def test_series_without_clouds_advances_by_half_a_window():
    assert time_windows([0.0] * 12, 4) == [(0, 4), (2, 6), (4, 8), (6, 10), (8, 12)]


def test_last_window_is_moved_back_to_end_with_the_series():
    assert time_windows([0.0] * 9, 6) == [(0, 6), (3, 9)]
    assert time_windows([0.0] * 8, 6) == [(0, 6), (2, 8)]


def test_cloudy_start_moves_to_the_clearest_then_nearest_then_earlier_frame():
    shares = [0.0] * 24
    shares[4] = 0.9
    assert time_windows(shares, 8)[1] == (3, 11)
    shares[3], shares[5] = 0.2, 0.1
    assert time_windows(shares, 8)[1] == (2, 10)
    shares[2] = shares[6] = 0.5
    assert time_windows(shares, 8)[1] == (5, 13)


@pytest.mark.parametrize("frames", [0, 1, 14, 15])
def test_series_that_fits_is_one_window(frames):
    assert time_windows([1.0] * frames, 15) == ([(0, frames)] if frames else [])


def test_refuses_windows_without_frames():
    with pytest.raises(ValueError, match="length 0"):
        time_windows([0.0], 0)

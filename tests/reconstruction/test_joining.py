"""Where windows meet, and that streaming changes nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_dit.reconstruction.windows import join_frame, join_windows, joined_blocks, time_windows


def frames(*values: float) -> np.ndarray:
    """One frame [2, 3, 4] for each value."""
    return np.stack([np.full((2, 3, 4), value, np.float32) for value in values])


def values_of(series: np.ndarray) -> list[float]:
    return series[:, 0, 0, 0].tolist()


def test_the_later_window_begins_where_the_two_agree_best():
    # The overlap is frames 2 … 5; the differences there are 9, 1, 5, 7.
    joined = join_windows([frames(0, 1, 2, 3, 4, 5), frames(11, 4, 9, 12, 20, 21)], [(0, 6), (2, 8)])
    assert values_of(joined) == [0, 1, 2, 4, 9, 12, 20, 21]


def test_of_equal_differences_the_first_counts():
    joined = join_windows([frames(0, 0, 0, 0), frames(1, 1, 1, 1)], [(0, 4), (2, 6)])
    assert values_of(joined) == [0, 0, 1, 1, 1, 1]


def test_mean_absolute_difference_is_over_bands_and_pixels():
    earlier = np.zeros((2, 1, 1, 4), np.float32)
    later = np.array([[2, -2, 0, 0], [0, 0, 3, 0]], np.float32).reshape(2, 1, 1, 4)
    assert join_frame(earlier, later) == 1


def test_a_third_window_meets_what_was_joined_before_it():
    # Windows one and two meet at frame 4, windows two and three overlap from frame 3 on, where the series is still
    # that of window one: 3 is nearer to the third window's 3.5 than window two's own 30 would be.
    windows = [(0, 6), (2, 8), (3, 9)]
    predictions = [frames(0, 1, 2, 3, 4, 5), frames(20, 30, 4, 50, 60, 70), frames(3.5, 9, 9, 9, 9, 9)]
    assert values_of(join_windows(predictions, windows)) == [0, 1, 2, 3.5, 9, 9, 9, 9, 9]


def test_windows_that_only_touch_follow_each_other():
    assert values_of(join_windows([frames(0), frames(1), frames(2)], [(0, 1), (1, 2), (2, 3)])) == [0, 1, 2]


@given(st.integers(1, 60), st.integers(1, 15), st.integers(0, 2**32 - 1))
def test_windows_cut_from_one_series_give_it_back(length, window, seed):
    random = np.random.default_rng(seed)
    series = random.normal(size=(length, 1, 2, 2)).astype(np.float32)
    windows = time_windows(random.choice([0, 0.5], length), window)
    np.testing.assert_array_equal(join_windows([series[slice(*w)] for w in windows], windows), series)


@given(st.integers(1, 60), st.integers(4, 15), st.integers(0, 2**32 - 1))
def test_streaming_equals_joining_in_one_array(length, window, seed):
    random = np.random.default_rng(seed)
    windows = time_windows(random.choice([0, 0.5], length), window)
    predictions = [random.normal(size=(stop - start, 1, 2, 2)) for start, stop in windows]

    expected = np.zeros((length, 1, 2, 2))
    reached = 0
    for (start, stop), prediction in zip(windows, predictions, strict=True):
        difference = np.abs(expected[start:reached] - prediction[: reached - start]).mean(axis=(1, 2, 3))
        join = int(difference.argmin()) if reached else 0
        expected[start + join : stop] = prediction[join:]
        reached = stop

    np.testing.assert_array_equal(join_windows(predictions, windows), expected)


def test_streaming_asks_for_a_window_only_when_the_one_before_was_yielded():
    windows = time_windows([0.0] * 40, 8)
    asked: list[int] = []

    def predictions():
        for index, (start, stop) in enumerate(windows):
            asked.append(index)
            yield np.zeros((stop - start, 1, 1, 1), np.float32)

    lengths = []
    for index, block in enumerate(joined_blocks(predictions(), windows)):
        assert asked == list(range(index + 1))
        lengths.append(len(block))
    assert lengths == [4] * 8 + [8]


def test_refuses_a_prediction_of_another_length():
    with pytest.raises(ValueError, match=r"\[0, 3\).*\b3\b.*\b2\b"):
        join_windows([frames(0, 1)], [(0, 3)])
    with pytest.raises(ValueError, match="nothing to join"):
        join_windows([], [])

"""What is hidden of a series on trial: dates that show something, in gaps like those to be filled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_dit.reconstruction.probes import PARTLY, WHOLE, GapLength, _within, choose_probes, gap_lengths


@given(st.integers(1, 40), st.integers(1, 45), st.integers(1, 45), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_only_what_a_date_shows_is_hidden(frames, height, width, clear, seed):
    random = np.random.default_rng(seed)
    visible = random.random((frames, height, width)) < random.random((frames, 1, 1)) * 0.5 + clear / 2
    probes = choose_probes(visible, np.cumsum(random.integers(1, 20, frames)).astype(float))
    for whole, most, blocks in ((True, WHOLE, 4), (False, PARTLY, 1)):
        dates = [probe.frame for probe in probes if probe.whole == whole]
        assert dates == sorted(dates)
        assert len(set(dates)) <= most
        assert all(dates.count(date) <= blocks for date in dates)
    for probe in probes:
        shown = visible[probe.frame, probe.block.rows, probe.block.columns]
        assert shown.shape == probe.hidden.shape
        assert shown.mean() >= 0.5
        assert probe.hidden.size == 1 or probe.hidden.all() == probe.whole
        assert 0 < len(probe.pixels) <= 256
        assert (np.diff(probe.pixels) > 0).all()
        assert (probe.hidden & shown).ravel()[probe.pixels].all()
        assert probe.frame not in probe.beside
        start, stop = probe.span(visible, 3)
        assert 0 <= start <= probe.frame < stop <= frames
        pixels = probe.visible(visible)[:, probe.hidden].mean(axis=1) >= 0.5
        for side, is_end in (
            (pixels[start : probe.frame], start == 0),
            (pixels[probe.frame + 1 : stop], stop == frames),
        ):
            assert side.sum() == 5 or (is_end and side.sum() < 5)
        left = probe.visible(visible)
        block = visible[:, probe.block.rows, probe.block.columns]
        assert not left[probe.frame, probe.hidden].any()
        assert (left[:, ~probe.hidden] == block[:, ~probe.hidden]).all()
        others = np.setdiff1d(np.arange(frames), [probe.frame, *probe.beside])
        assert (left[others] == block[others]).all()
        assert not probe.beside or (block[others][:, probe.hidden].mean(axis=1) >= 0.5).any()
    if (visible.mean(axis=(1, 2)) == 1).any() and min(height, 16) * min(width, 16) >= 16:
        assert probes


def often_clear(days: list[int], hidden: list[int], partly: list[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A series of one block that is hidden on some dates, and on others in its left half."""
    visible = np.ones((len(days), 16, 16), bool)
    visible[hidden] = False
    visible[partly or [], :, :8] = False
    return visible, np.array(days, float)


def test_lengths_of_gaps():
    visible, days = often_clear([0, 5, 10, 20, 40, 45, 50], hidden=[0, 2, 3, 6], partly=[4])
    assert gap_lengths(visible, days) == [
        GapLength(5, 30), GapLength(15, 20), GapLength(np.inf, 5), GapLength(5, np.inf),
    ]  # fmt: skip


def test_whole_dates_are_hidden_all_over_the_area_and_parts_in_the_shape_of_real_gaps():
    visible = np.ones((30, 70, 90), bool)
    visible[11, 20:50, 30:60] = False
    visible[12, :, 40:] = False
    probes = choose_probes(visible, np.arange(30) * 5.0)
    covered = np.zeros((70, 90), int)
    for probe in probes:
        if probe.whole:
            covered[probe.block.rows, probe.block.columns] += 1
            assert probe.hidden.shape == (8, 8)
    assert all(part.any() for half in np.array_split(covered, 5) for part in np.array_split(half, 5, axis=1))
    partly = [probe for probe in probes if not probe.whole]
    assert {probe.hidden.shape for probe in partly} == {(32, 32)}
    real = 0
    for probe in partly:
        gaps = ~visible[[11, 12], probe.block.rows, probe.block.columns]
        usable = [gap for gap in gaps if 0.05 <= gap.mean() <= 0.95]
        real += bool(usable)
        assert not usable or any((probe.hidden == gap).all() for gap in usable)
    assert real >= 4


def test_windows_reach_beyond_a_gap():
    visible, days = often_clear(list(range(0, 600, 5)), hidden=list(range(50, 70)))
    probes = [probe for probe in choose_probes(visible, days) if probe.whole and 20 < probe.frame < 40]
    assert any(len(probe.beside) > 8 for probe in probes)
    for probe in probes:
        start, stop = probe.span(visible, 8)
        seen = probe.visible(visible)[:, probe.hidden].mean(axis=1) >= 0.5
        assert seen[start : probe.frame].sum() == 10 or (start == 0 and seen[: probe.frame].sum() < 10)
        assert seen[probe.frame : stop].sum() == 10


def test_gaps_of_a_part_of_the_area_count():
    """Clouds that hide half of a large area leave nothing visible around the pixels in their midst."""
    visible = np.ones((40, 64, 64), bool)
    visible[10:20, :, :32] = False
    days = np.arange(40) * 5.0
    lengths = gap_lengths(visible, days)
    assert {length.before + length.after for length in lengths} == {55.0}
    assert any(len(probe.beside) == 9 for probe in choose_probes(visible, days) if probe.whole)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5)])
def test_an_area_of_few_pixels_is_not_tested(height, width):
    assert choose_probes(np.ones((9, height, width), bool), np.arange(9.0)) == []


def test_equal_dates_leave_something_to_interpolate_from():
    visible, days = often_clear([0, 10, 20, 30, 30, 30], hidden=[4, 5])
    for probe in choose_probes(visible, days):
        assert probe.visible(visible)[:, probe.hidden].any()


def test_large_areas_are_looked_at_in_part():
    visible, days = often_clear([0, 5, 10, 20, 40], hidden=[2, 3])
    large = np.ones((5, 300, 280), bool)
    large[[2, 3]] = False
    lengths = gap_lengths(large, days)
    assert set(lengths) == set(gap_lengths(visible, days))
    assert len(lengths) == 2 * 8 * 8


def test_probes_lie_in_gaps_as_long_as_those_of_the_series():
    every = list(range(0, 600, 5))
    short, days = often_clear(every, hidden=[20, 40])
    assert {probe.beside for probe in choose_probes(short, days) if probe.whole} == {()}
    long, days = often_clear(every, hidden=list(range(20, 31)), partly=[45])
    lengths = gap_lengths(long, days)
    found = set()
    for probe in choose_probes(long, days):
        if not probe.whole:
            assert probe.beside == ()
        elif 60 <= probe.frame <= 100:  # clear dates all around
            run = sorted([probe.frame, *probe.beside])
            assert run == list(range(run[0], run[-1] + 1))
            made = GapLength(days[probe.frame] - days[run[0] - 1], days[run[-1] + 1] - days[probe.frame])
            assert made in lengths
            found.add(made)
    assert len(found) > 4


def test_long_gaps_are_made_where_dates_are_far_apart():
    """Where the dates of one half of a series are 5 days apart and those of the other 40, gaps of 10 and of 80 days can
    both be made, but the former only in the first half."""
    days = np.cumsum([5.0] * 31 + [40.0] * 31)
    visible = np.ones((62, 16, 16), bool)
    visible[[3, 9, 15, 21, 27, 34, 40, 46, 52, 58]] = False
    made = []
    for probe in choose_probes(visible, days):
        if probe.whole:
            others = np.delete(days, [probe.frame, *probe.beside, 3, 9, 15, 21, 27, 34, 40, 46, 52, 58])
            earlier, later = others[others < days[probe.frame]], others[others > days[probe.frame]]
            if len(earlier) and len(later):
                made.append(later[0] - earlier[-1])
    assert set(made) <= {10, 15, 45, 80, 120}
    assert made.count(80) == pytest.approx(made.count(10), abs=10)


@pytest.mark.parametrize("partly", [(), (2, 7)])
def test_gaps_are_as_near_to_the_wanted_length_as_the_dates_allow(partly: tuple[int, ...]):
    """Longer as often as shorter: the next date beyond would make all of them too long."""
    days = np.array([0, 12, 20, 29, 40, 51, 63, 70, 90], float)
    visible = np.ones((9, 8, 8), bool)
    visible[list(partly)] = False
    hidden, shown = np.ones((8, 8), bool), [day for frame, day in enumerate(days) if frame not in partly]
    for before, after in ((1.0, 1.0), (14.0, 17.0), (17.0, 14.0), (26.0, 40.0), (np.inf, 30.0)):
        beside = _within(GapLength(before, after), 4, days, visible, hidden)
        left = [day for frame, day in enumerate(days) if day in shown and frame not in (4, *beside)]
        earlier, later = [40 - day for day in left if day < 40], [day - 40 for day in left if day > 40]
        if np.isinf(before):
            assert earlier == []
        else:
            assert abs(min(earlier) - before) == min(abs(40 - day - before) for day in shown if day < 40)
        assert abs(min(later) - after) == min(abs(day - 40 - after) for day in shown if day > 40)


def test_a_series_without_gaps_is_tried_on_single_dates():
    visible, days = often_clear(list(range(0, 100, 5)), hidden=[])
    assert gap_lengths(visible, days) == []
    assert all(probe.beside == () for probe in choose_probes(visible, days))


def test_a_gap_that_would_leave_no_date_is_not_made():
    visible, days = often_clear([0, 100, 200, 201], hidden=[1, 2])
    probes = choose_probes(visible, days)
    assert probes
    for probe in probes:
        assert probe.visible(visible).any()

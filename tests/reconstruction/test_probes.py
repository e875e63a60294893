"""What is hidden of a series on trial: dates that show something, in gaps like those to be filled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_dit.reconstruction.probes import PARTLY, WHOLE, GapLength, choose_probes, gap_lengths


@given(st.integers(1, 40), st.integers(1, 45), st.integers(1, 45), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_only_what_a_date_shows_is_hidden(frames, height, width, clear, seed):
    random = np.random.default_rng(seed)
    visible = random.random((frames, height, width)) < random.random((frames, 1, 1)) * 0.5 + clear / 2
    probes = choose_probes(visible, np.cumsum(random.integers(1, 20, frames)).astype(float))
    assert sum(probe.whole for probe in probes) <= WHOLE
    assert sum(not probe.whole for probe in probes) <= PARTLY
    for whole in (True, False):
        dates = [probe.frame for probe in probes if probe.whole == whole]
        assert dates == sorted(set(dates))
    for probe in probes:
        shown = visible[probe.frame, probe.block.rows, probe.block.columns]
        assert shown.shape == probe.hidden.shape
        assert shown.mean() >= 0.5
        assert probe.hidden.size == 1 or probe.hidden.all() == probe.whole
        assert probe.frame not in probe.beside
        start, stop = probe.span(visible, 3)
        assert 0 <= start <= probe.frame < stop <= frames
        left = probe.visible(visible)
        block = visible[:, probe.block.rows, probe.block.columns]
        assert not left[probe.frame, probe.hidden].any()
        assert (left[:, ~probe.hidden] == block[:, ~probe.hidden]).all()
        others = np.setdiff1d(np.arange(frames), [probe.frame, *probe.beside])
        assert (left[others] == block[others]).all()
        assert not probe.beside or (block[others].mean(axis=(1, 2)) >= 0.5).any()
    if (visible.mean(axis=(1, 2)) == 1).any():
        assert probes


def often_clear(days: list[int], hidden: list[int], partly: list[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A series of 20×20 pixels that is hidden on some dates, and on others in its left half."""
    visible = np.ones((len(days), 20, 20), bool)
    visible[hidden] = False
    visible[partly or [], :, :10] = False
    return visible, np.array(days, float)


def test_lengths_of_gaps():
    visible, days = often_clear([0, 5, 10, 20, 40, 45, 50], hidden=[0, 2, 3, 6], partly=[4])
    assert gap_lengths(visible, days, whole=True) == [
        GapLength(5, 30), GapLength(15, 20), GapLength(np.inf, 5), GapLength(5, np.inf),
    ]  # fmt: skip
    # Hidden pixels of the fifth date see the second one and the sixth.
    assert gap_lengths(visible, days, whole=False) == [GapLength(35, 5)]


def test_large_areas_are_looked_at_in_part():
    visible, days = often_clear([0, 5, 10, 20, 40], hidden=[2, 3], partly=[1])
    large = np.ones((5, 300, 280), bool)
    large[[2, 3]] = False
    large[1, :, :140] = False
    for whole in (True, False):
        assert gap_lengths(large, days, whole=whole) == gap_lengths(visible, days, whole=whole)


def test_probes_lie_in_gaps_as_long_as_those_of_the_series():
    every = list(range(0, 600, 5))
    short, days = often_clear(every, hidden=[20, 40])
    assert {probe.beside for probe in choose_probes(short, days) if probe.whole} == {()}
    long, days = often_clear(every, hidden=list(range(20, 31)), partly=[45])
    lengths = gap_lengths(long, days, whole=True)
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


@pytest.mark.parametrize("whole", [True, False])
def test_a_series_without_gaps_is_tried_on_single_dates(whole):
    visible, days = often_clear(list(range(0, 100, 5)), hidden=[])
    assert gap_lengths(visible, days, whole=whole) == []
    assert all(probe.beside == () for probe in choose_probes(visible, days))


def test_a_gap_that_would_leave_no_date_is_not_made():
    visible, days = often_clear([0, 100, 200, 201], hidden=[1, 2])
    probes = choose_probes(visible, days)
    assert probes
    for probe in probes:
        assert probe.visible(visible).any()

"""How the gaps of training examples vary."""

from __future__ import annotations

import numpy as np
import pytest

from restore_dit.config import GapConfig
from restore_dit.data.examples import gaps

SHAPE = (12, 16, 16)


def varied(seed: int, **shares: float) -> np.ndarray:
    random = np.random.default_rng(seed)
    masks = np.zeros(SHAPE, bool)
    masks[::3, 4:9] = True
    masks[1::3] = True
    gaps.vary(masks, GapConfig(**shares), random)
    return masks


@pytest.mark.parametrize("seed", range(5))
def test_examples_may_miss_one_frame_and_nothing_else(seed: int):
    shares = varied(seed, frames_only=1).mean(axis=(1, 2))
    assert sorted(shares) == [0] * 11 + [1]


@pytest.mark.parametrize("seed", range(5))
def test_examples_may_miss_runs_of_two_to_six_frames(seed: int):
    hidden = varied(seed, runs=1).mean(axis=(1, 2))
    assert set(hidden) == {0, 1}
    edges = np.flatnonzero(np.diff(np.concatenate([[0], hidden, [0]])))
    lengths = edges[1::2] - edges[::2]
    assert 1 <= len(lengths) <= 2
    assert all(2 <= length <= 12 for length in lengths)  # two runs may meet


@pytest.mark.parametrize("seed", range(5))
def test_examples_may_have_partial_gaps_alone(seed: int):
    masks = varied(seed, partial=1)
    share = masks.mean(axis=(1, 2))
    assert ((share >= 0.09) & (share <= 0.96)).all()
    assert (masks[::3] == varied(seed)[::3]).all()  # what was partial already stays
    assert len(np.unique(share)) > 3


def test_two_frames_and_one():
    for count in (1, 2):
        masks = np.zeros((count, 4, 4), bool)
        gaps.vary(masks, GapConfig(runs=1), np.random.default_rng(0))
        assert masks.any(axis=(1, 2)).sum() == 1

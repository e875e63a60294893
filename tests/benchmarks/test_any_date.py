"""Dates without acquisition are scored at the distances that the table says."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.any_date import DISTANCES, KINDS, frames_left, scores
from benchmarks.quality.sites import SIMULATED, prepare
from restore_dit.evaluation.protocols import baseline_methods

DAYS = np.array([0, 5, 10, 12, 30, 50, 90, 95], float)


@pytest.mark.parametrize(
    ("frame", "distance", "kind", "expected"),
    [
        (4, 20, "within", [0, 1, 2, 5, 6, 7]),
        (4, 20, "end", None),  # three are too few
        (6, 20, "end", [0, 1, 2, 3, 4, 5]),
        (1, 20, "beginning", [4, 5, 6, 7]),
        (0, 5, "within", None),
        (7, 5, "beginning", None),
    ],
)
def test_the_frames_that_stay(frame, distance, kind, expected):
    found = frames_left(DAYS, frame, distance, kind)
    assert (None if found is None else found.tolist()) == expected


@pytest.mark.slow
def test_linear_interpolation_is_worse_the_farther_the_observations(tmp_path):
    site = prepare(SIMULATED, tmp_path, tmp_path, "source")
    found = list(scores(site, {"linear": baseline_methods()["linear"]}, 6))
    assert {one.kind for one in found} == set(KINDS)
    near, far = (
        np.mean([one.of_methods["linear"] for one in found if one.kind == "within" and one.distance == distance])
        for distance in (DISTANCES[0], DISTANCES[-1])
    )
    assert far < near - 1

"""Whatever masks are compared, the same pixels are hidden and scored, and every mask calls them clear."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.masks import squared_errors, trials
from restore_dit.data.store.masks import SOURCE
from restore_dit.evaluation.protocols import baseline_methods
from restore_dit.series import Acquisitions, TileSeries

SIZE = (10, 20, 20)


@pytest.fixture
def masks() -> dict[str, np.ndarray]:
    """Of ten dates. The source's hide most of the first and a corner of the third, the rule's all of the fifth and one
    pixel of the sixth."""
    found = {name: np.zeros(SIZE, np.uint8) for name in (SOURCE, "rule")}
    found[SOURCE][0, 5:] = 1
    found[SOURCE][2, :3, :3] = 3
    found["rule"][4] = 2
    found["rule"][5, 7, 7] = 1
    return found


def test_a_missing_frame_is_one_that_every_mask_calls_clear(masks: dict[str, np.ndarray]) -> None:
    """Of ten dates, the first and the fifth are not. Dates around a hidden one are visible."""
    no_data = np.zeros(SIZE, bool)
    no_data[9, 0, 0] = True
    found = list(trials(masks, no_data, "missing-frame"))
    hidden = [np.flatnonzero(trial.gaps.all(axis=(1, 2))).tolist() for trial in found]
    assert hidden == [[1, 5, 8], [2, 6, 9], [3, 7]]
    assert [np.ravel(trial.sets).tolist() for trial in found] == hidden
    assert all(trial.gaps.sum() == 400 * len(dates) for trial, dates in zip(found, hidden, strict=True))
    scored = sum(trial.scored for trial in found)
    assert scored.sum(axis=(1, 2)).tolist() == [0, 400, 391, 400, 0, 399, 400, 400, 400, 399]


def test_the_paper_hides_the_shapes_of_the_sources_clouds(masks: dict[str, np.ndarray]) -> None:
    [trial] = trials(masks, np.zeros(SIZE, bool), "paper")
    np.testing.assert_array_equal(np.flatnonzero(trial.gaps.any(axis=(1, 2))), [1, 3])  # of dates 0 and 2
    np.testing.assert_array_equal(trial.gaps[1], masks[SOURCE][0] != 0)
    np.testing.assert_array_equal(trial.scored, trial.gaps)


def test_the_error_is_that_of_what_is_hidden() -> None:
    """Where values change by 80 a date, so by 0.01 on the published scale, the one before is that far off."""
    values = np.broadcast_to(1000 + 80 * np.arange(10)[:, None, None, None], (10, 3, 4, 4)).astype(np.int16)
    dates = np.datetime64("2021-01-01") + 5 * np.arange(10)
    series = TileSeries("even", Acquisitions(values, dates, ("B02", "B03", "B04")))
    hidden = np.zeros((10, 4, 4), bool)
    hidden[4, 2:] = True
    found = squared_errors(baseline_methods()["last"], series, hidden)
    np.testing.assert_allclose(found, np.where(hidden, 1e-4, 0), atol=1e-8)

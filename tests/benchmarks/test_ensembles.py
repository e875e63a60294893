"""Ensembles are scored as the table says."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.ensembles import Trial, blocks, in_ranges, index_spread, power, scatter, spectra_of

BANDS = ("B04", "B08")


@pytest.fixture(scope="module")
def trial() -> Trial:
    """Twelve dates whose errors are what the members of an ensemble are: each half its frame's and half its pixel's."""
    random = np.random.default_rng(0)

    def errors(*leading: int) -> np.ndarray:
        parts = random.standard_normal((*leading, 2, 1, 1)), random.standard_normal((*leading, 2, 16, 16))
        return 200 * np.sqrt(0.5) * (parts[0] + parts[1])

    filled = np.full((120, 2, 16, 16), 2000.0)
    filled[:, 1] += 2000
    members = filled[:, None] + errors(120, 39)
    return Trial(
        BANDS,
        filled + errors(120),
        filled,
        random.uniform(195, 205, filled.shape),
        {"ensemble": members},
        np.ones((120, 16, 16), bool),
    )


def test_intervals_of_right_members_hold_the_right_share_of_pixels_and_of_means(trial):
    found = scatter([trial], "ensemble")
    assert found["spread"] == pytest.approx(1, abs=0.05)
    for side in (1, 8, 64):
        assert found["covered"][side] == pytest.approx([0.5, 0.8, 0.95], abs=0.07)


def test_the_spread_of_an_index_is_scored_against_its_errors(trial):
    found = index_spread([trial], "ndvi")
    assert found is not None
    for way in ("members", "independent"):
        assert found[way]["rms"] == pytest.approx(found["rms_error"], rel=0.1)
        assert found[way]["covered"] == pytest.approx([0.5, 0.8, 0.95], abs=0.07)
    assert index_spread([trial], "ndre") is None


def test_white_noise_has_the_same_power_everywhere(trial):
    noise = np.random.default_rng(1).standard_normal((200, 32, 32))
    np.testing.assert_allclose(power(noise)[2:] / power(noise)[2:].mean(), 1, atol=0.1)
    spectra = spectra_of([trial])
    np.testing.assert_allclose(spectra["truth"], 1)
    assert in_ranges(spectra["ensemble"])[2] == pytest.approx(1, abs=0.1)
    assert in_ranges(spectra["ensemble"])[0] is None  # 16 pixels are too few


def test_blocks_are_means():
    values = np.arange(36.0).reshape(6, 6)
    np.testing.assert_array_equal(blocks(values, 4), [[values[:4, :4].mean()]])
    np.testing.assert_array_equal(blocks(values, 64), [[values.mean()]])

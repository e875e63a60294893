"""Noise of a place and a day: the same however an area is cut, and normal."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_dit.diffusion.noise import cosine_and_sine, field_noise, negative_log

DAYS, ROWS, COLUMNS, BANDS = np.arange(0, 200, 10), np.arange(64), np.arange(80), 10


@pytest.fixture(scope="module")
def field():
    return field_noise(7, DAYS, ROWS, COLUMNS, BANDS)


@given(st.data())
def test_a_part_is_the_same_as_in_the_whole(field, data):
    def part(coordinates):
        start = data.draw(st.integers(0, len(coordinates) - 1))
        return slice(start, data.draw(st.integers(start + 1, len(coordinates))), data.draw(st.integers(1, 3)))

    frames, rows, columns = part(DAYS), part(ROWS), part(COLUMNS)
    bands = data.draw(st.integers(1, BANDS))
    cut = field_noise(7, DAYS[frames], ROWS[rows], COLUMNS[columns], bands)
    assert np.array_equal(cut, field[frames, :bands, rows, columns])


def test_bits_never_change(field):
    """Results of a seed must stay what they were when they were published."""
    assert field[0, :3, 0, 0].view(np.uint32).tolist() == [1066136996, 3129233654, 3205185322]


def test_moments(field):
    values = field.astype(np.float64)
    error = 1 / np.sqrt(values.size)
    assert abs(values.mean()) < 4 * error
    assert abs(values.var() - 1) < 4 * np.sqrt(2) * error
    assert abs((values**3).mean()) < 4 * np.sqrt(15) * error
    assert abs((values**4).mean() - 3) < 4 * np.sqrt(96) * error
    inside = [np.mean(np.abs(values) < limit) for limit in (0.5, 1, 2, 3)]
    np.testing.assert_allclose(inside, [0.38292, 0.68269, 0.95450, 0.99730], atol=4 * error)


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("distance", [1, 2])
def test_neighbours_are_independent(field, axis, distance):
    ahead, behind = np.split(field.astype(np.float64), [distance], axis=axis)[1], field
    behind = np.take(behind, np.arange(field.shape[axis] - distance), axis=axis)
    bound = 4 / np.sqrt(ahead.size)
    assert abs((ahead * behind).mean()) < bound
    assert abs((ahead**2 * behind**2).mean() - 1) < 8 * bound


@pytest.mark.parametrize(("first", "second"), [(0, 1), (7, 8), (-1, 1), (0, 2**40), (2**63, 0)])
def test_seeds_are_independent(first, second):
    one, other = (field_noise(seed, DAYS, ROWS, COLUMNS, BANDS) for seed in (first, second))
    assert abs((one * other).mean()) < 4 / np.sqrt(one.size)


def test_coordinates_may_be_negative_and_large():
    far = np.array([-(2**40), -1, 0, 2**40])
    noise = field_noise(-3, far, far, far, 2)
    assert np.isfinite(noise).all()
    assert len(np.unique(noise)) == noise.size


@given(st.floats(2.0**-33, 1, width=32))
def test_logarithm(value):
    ours = negative_log(np.array([value], dtype=np.float32))[0]
    assert ours == pytest.approx(-np.log(value), rel=5e-7, abs=5e-8)


@given(st.floats(-np.pi / 2, np.pi / 2))
def test_cosine_and_sine(angle):
    angle = np.float32(angle)
    cosine, sine = cosine_and_sine(np.array([angle]))
    assert cosine[0] == pytest.approx(np.cos(float(angle)), abs=4e-7)
    assert sine[0] == pytest.approx(np.sin(float(angle)), abs=4e-7)


def test_it_is_fast():
    start = time.process_time()
    noise = field_noise(1, np.arange(15), np.arange(256), np.arange(256), 10)
    assert noise.size / (time.process_time() - start) > 20e6

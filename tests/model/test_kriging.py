"""Kriging in time against the dense ordinary-kriging system, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_dit.model.interpolation import MEMORY_DAYS, NUGGET, krige


@st.composite
def gapped_series(draw):
    """(values, observed, dates): any gaps, unevenly spaced dates, NaN where nothing was observed."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    frames = draw(st.integers(1, 8))
    values = torch.randn(2, frames, 3, 2, 3, generator=generator, dtype=torch.float64)
    observed = torch.rand(2, frames, 1, 2, 3, generator=generator) < draw(st.floats(0, 1))
    dates = torch.randint(1, 90, (2, frames), generator=generator).cumsum(dim=1)
    return torch.where(observed, values, torch.nan), observed, dates


def dense(day, days, values):
    """Mean [C] and variance of an observation on `day` from `values` [n, C] on `days` [n] of other dates, by
    [[K, 1], [1ᵀ, 0]]."""
    count = len(days)
    system = np.ones((count + 1, count + 1))
    system[:count, :count] = np.exp(-np.abs(days[:, None] - days) / 60) + 0.1 * np.eye(count)
    system[count, count] = 0
    right = np.append(np.exp(-np.abs(days - day) / 60), 1)
    solution = np.linalg.solve(system, right)
    return solution[:count] @ values, 1.1 - solution @ right


def test_the_covariance_is_that_of_the_dense_system():
    assert (MEMORY_DAYS, NUGGET) == (60, 0.1)


@settings(max_examples=40)
@given(gapped_series())
def test_each_date_is_kriged_from_the_others(series):
    values, observed, dates = series
    kriged = krige(values, observed, dates)
    assert kriged.mean.isfinite().all()
    for batch, frame, row, column in np.ndindex(2, values.shape[1], 2, 3):
        others = observed[batch, :, 0, row, column].numpy().copy()
        others[frame] = False
        place = (batch, frame, slice(None), row, column)
        assert kriged.found[place].item() == others.any()
        if others.any():
            support = values[batch, others, :, row, column].numpy()
            mean, variance = dense(dates[batch, frame].item(), dates[batch, others].double().numpy(), support)
            np.testing.assert_allclose(kriged.mean[place], mean, atol=1e-6)
            np.testing.assert_allclose(kriged.variance[place], variance, rtol=1e-6)
        else:
            assert (kriged.mean[place] == 0).all()
            assert kriged.variance[place].item() > 1000


def test_one_observation_holds_everywhere_else_and_is_less_certain_far_away():
    values = torch.tensor([torch.nan, 0.3, torch.nan, torch.nan]).view(1, 4, 1, 1, 1)
    kriged = krige(values, ~values.isnan(), torch.tensor([[0, 10, 20, 300]]))
    assert kriged.found.flatten().tolist() == [True, False, True, True]
    np.testing.assert_allclose(kriged.mean.flatten(), [0.3, 0, 0.3, 0.3], rtol=1e-6)
    near, far = kriged.variance.flatten()[[2, 3]].tolist()
    assert near == pytest.approx(2.2 - 2 * np.exp(-10 / 60), rel=1e-4)
    assert far == pytest.approx(2.2 - 2 * np.exp(-290 / 60), rel=1e-4)


def test_single_precision_agrees_with_double():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(1, 40, 2, 5, 5, generator=generator, dtype=torch.float64)
    observed = torch.rand(1, 40, 1, 5, 5, generator=generator) < 0.4
    dates = torch.randint(1, 12, (1, 40), generator=generator).cumsum(dim=1)
    exact, single = krige(values, observed, dates), krige(values.float(), observed, dates)
    torch.testing.assert_close(single.mean.double(), exact.mean, rtol=0, atol=1e-4)
    assert torch.equal(single.found, exact.found)

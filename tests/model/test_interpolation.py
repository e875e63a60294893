"""Linear interpolation in time against a pixel-by-pixel oracle."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_dit.model.interpolation import interpolate_from_other_dates, interpolate_gaps


@st.composite
def gapped_series(draw):
    """(values, observed, dates): any gaps, unevenly spaced dates, NaN where nothing was observed."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    frames = draw(st.integers(1, 8))
    values = torch.randn(2, frames, 3, 4, 5, generator=generator, dtype=torch.float64)
    observed = torch.rand(2, frames, 1, 4, 5, generator=generator) < draw(st.floats(0, 1))
    dates = torch.randint(1, 60, (2, frames), generator=generator).cumsum(dim=1)
    return torch.where(observed, values, torch.nan), observed, dates


@settings(max_examples=50)
@given(gapped_series())
def test_each_pixel_is_interpolated_and_never_observed_ones_follow_their_frame(series):
    values, observed, dates = series
    filled = interpolate_gaps(values, observed, dates)
    assert filled.isfinite().all()
    for batch, band, row, column in np.ndindex(2, 3, 4, 5):
        seen = observed[batch, :, 0, row, column]
        if seen.any():
            support, known = dates[batch, seen], values[batch, seen, band, row, column]
            expected = np.interp(dates[batch], support, known)
            np.testing.assert_allclose(filled[batch, :, band, row, column], expected, atol=1e-9)
        else:
            means = values[batch, :, band].nanmean(dim=(1, 2))
            has_mean = means.isfinite()
            expected = np.zeros(len(means))
            if has_mean.any():
                expected = np.interp(dates[batch], dates[batch, has_mean], means[has_mean])
            np.testing.assert_allclose(filled[batch, :, band, row, column], expected, atol=1e-9)
    seen = observed.expand_as(values)
    assert torch.equal(filled[seen], values[seen])


def test_equal_dates():
    """Rounded dates may coincide."""
    values = torch.tensor([1.0, 5.0, 3.0]).view(1, 3, 1, 1, 1)
    observed = torch.tensor([True, False, True]).view(1, 3, 1, 1, 1)
    filled = interpolate_gaps(values, observed, torch.tensor([[10, 10, 10]]))
    assert filled.flatten().tolist() == [1, 1, 3]


@settings(max_examples=30)
@given(gapped_series())
def test_the_interpolation_from_other_dates_never_looks_at_a_date_itself(series):
    values, observed, dates = series
    filled = interpolate_from_other_dates(values, observed, dates)
    assert filled.isfinite().all()
    missing = ~observed.expand_as(values)
    assert torch.equal(filled[missing], interpolate_gaps(values, observed, dates)[missing])
    frames = values.shape[1]
    for frame in range(frames):
        others = observed.clone()
        others[:, frame] = False
        alone = (~others.any(dim=1)).expand_as(values[:, frame])
        expected = interpolate_gaps(values, others, dates)[:, frame]
        torch.testing.assert_close(filled[:, frame][~alone], expected[~alone])

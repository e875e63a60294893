"""What is known before any learning, against the same by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from restore_dit.model.evidence import Evidence, RadarSeries, gather_evidence
from restore_dit.model.interpolation import interpolate_from_other_dates


def series(frames: int = 9, bands: int = 3, side: int = 12, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Values, a mask of half of them, dates."""
    random = torch.Generator().manual_seed(seed)
    values = torch.rand(2, frames, bands, side, side, generator=random) * 2 - 1
    observed = torch.rand(2, frames, 1, side, side, generator=random) < 0.6
    dates = torch.randint(1, 9, (2, frames), generator=random).cumsum(dim=1).float()
    return values, observed, dates


def gather(values: torch.Tensor, observed: torch.Tensor, dates: torch.Tensor) -> Evidence:
    return gather_evidence(values, observed, dates, None)


def test_the_line_and_the_neighbours_are_those_of_the_other_dates():
    values, observed, dates = series()
    evidence = gather(values, observed, dates)
    seen = observed.sum(dim=1, keepdim=True) - observed.int() > 0  # on another date
    expected = interpolate_from_other_dates(values, observed, dates)
    torch.testing.assert_close(torch.where(seen, evidence.linear, 0), torch.where(seen, expected, 0))
    batch, frame, row, column = 1, 4, 3, 5
    earlier = [t for t in range(frame) if observed[batch, t, 0, row, column]][-1]
    later = next(t for t in range(frame + 1, 9) if observed[batch, t, 0, row, column])
    place = (batch, frame, slice(None), row, column)
    torch.testing.assert_close(evidence.before[place], values[batch, earlier, :, row, column])
    torch.testing.assert_close(evidence.after[place], values[batch, later, :, row, column])
    assert evidence.days_before[batch, frame, 0, row, column] == dates[batch, frame] - dates[batch, earlier]
    assert evidence.days_after[batch, frame, 0, row, column] == dates[batch, later] - dates[batch, frame]


def test_what_is_hidden_is_never_read():
    values, observed, dates = series()
    poisoned = torch.where(observed, values, torch.nan)
    for clean, other in zip(
        vars(gather(values, observed, dates)).values(), vars(gather(poisoned, observed, dates)).values(), strict=True
    ):
        torch.testing.assert_close(clean, other)


def test_offsets_are_shrunken_means_of_what_departs():
    values, observed, dates = series()
    evidence = gather(values, observed, dates)
    elsewhere = observed[0, :, 0].sum(dim=0) > 1  # else there is nothing to depart from
    departure, seen = evidence.departure[0, 2].numpy(), (observed[0, 2, 0] & elsewhere).numpy()
    assert (departure[:, ~seen] == 0).all()
    frame = departure.sum(axis=(1, 2)) / (seen.sum() + 8)
    np.testing.assert_allclose(evidence.frame_offset[0, 2, :, 0, 0], frame, rtol=1e-4)
    place = np.arange(-18, 19)
    weights = np.exp(-0.5 * (place / 6.0) ** 2)

    def spread_out(image: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(image, weights, axis=-1, mode="constant"), weights, axis=-2, mode="constant")

    wide = (spread_out(departure) + 4 * frame[:, None, None]) / (spread_out(seen.astype(float)) + 4)
    np.testing.assert_allclose(evidence.wide_offset[0, 2], wide, atol=1e-5)


def test_a_frame_that_is_hidden_as_a_whole_has_no_offset():
    values, observed, dates = series()
    observed[:, 3] = False
    evidence = gather(values, observed, dates)
    for offset in (evidence.frame_offset, evidence.wide_offset, evidence.near_offset, evidence.coverage):
        assert (offset[:, 3] == 0).all()


def test_the_radar_of_each_track_departs_from_its_own_level():
    values, observed, dates = series(frames=4, side=6)
    random = torch.Generator().manual_seed(1)
    backscatter = torch.rand(2, 6, 2, 1, 1, generator=random).expand(-1, -1, -1, 6, 6)
    radar_dates = torch.tensor([[5.0, 6, 7, 20, 21, 900]]).expand(2, -1)
    track = torch.tensor([[0, 1, 0, 1, 0, 0]]).expand(2, -1)
    mask = torch.tensor([[True, True, True, True, True, False]]).expand(2, -1)
    dates = torch.tensor([[5.0, 12, 20, 60]]).expand(2, -1)
    radar = gather_evidence(values, observed, dates, RadarSeries(backscatter, radar_dates, track, mask)).radar
    ascending, descending = radar.split(13, dim=2)
    for part, chosen in ((ascending, [0, 2, 4]), (descending, [1, 3])):
        level = backscatter[:, chosen].mean(dim=1)
        torch.testing.assert_close(part[:, 1, 0:2], level)
        weight = torch.exp(-(dates[:, 0:1] - radar_dates[:, chosen]).abs() / 4)
        at_first = (weight[:, :, None, None, None] * backscatter[:, chosen]).sum(dim=1) / weight.sum(dim=1)[0]
        torch.testing.assert_close(part[:, 0, 2:4], at_first - level)
        assert part[:, :, 12].flatten(2)[..., 0].tolist() == [[1, 1, 1, 0]] * 2  # 60: nothing near
        assert (part[:, 3, 2:4] == 0).all()


@pytest.mark.parametrize("side", [1, 16])
def test_a_constant_series_departs_from_nothing(side: int):
    _, observed, dates = series(side=side)
    evidence = gather(torch.full((2, 9, 3, side, side), 0.3), observed, dates)
    several = (observed.sum(dim=1, keepdim=True) > 1).expand(-1, 9, 3, -1, -1)
    for field in (evidence.kriged, evidence.linear, evidence.before, evidence.after):
        torch.testing.assert_close(field[several], torch.full_like(field[several], 0.3), atol=1e-5, rtol=0)
    assert evidence.departure[several].abs().max() < 1e-5

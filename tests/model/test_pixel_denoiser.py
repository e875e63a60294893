"""The network of pixels: what its answer may depend on, and what not."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from restore_dit.config import DiffusionConfig, ModelConfig
from restore_dit.diffusion.objective import robust_loss, training_loss
from restore_dit.diffusion.prediction import Prediction
from restore_dit.model.conditioning import Conditioning
from restore_dit.model.pixel_denoiser import Estimate, PixelDenoiser, evidence_of, nearest_observed_mask

SIDE = 8
BANDS = 10
CONFIG = ModelConfig(
    network="pixels", members=2, hidden_size=32, depth=2, heads=2, mlp_ratio=2, radar_channels=("VV", "VH")
)


@pytest.fixture(scope="module")
def network() -> PixelDenoiser:
    """Random weights, so that every input has a say."""
    torch.manual_seed(0)
    denoiser = PixelDenoiser(CONFIG)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return denoiser.eval()


def told(frames: int, acquisitions: int, seed: int) -> Conditioning:
    random = torch.Generator().manual_seed(seed)

    def days(count: int) -> Tensor:
        return torch.randint(1, 9, (1, count), generator=random).cumsum(dim=1).float()

    return Conditioning(
        optical_dates=days(frames),
        frame_mask=torch.ones(1, frames, dtype=torch.bool),
        observed=torch.rand(1, frames, BANDS, SIDE, SIDE, generator=random) * 2 - 1,
        gap_mask=torch.rand(1, frames, 1, SIDE, SIDE, generator=random) < 0.5,
        band_mask=torch.ones(1, BANDS, dtype=torch.bool),
        radar=torch.rand(1, acquisitions, 2, SIDE, SIDE, generator=random),
        radar_dates=days(acquisitions),
        radar_mask=torch.ones(1, acquisitions, dtype=torch.bool),
        radar_track=torch.randint(0, 2, (1, acquisitions), generator=random),
    )


@torch.no_grad()
def ask(network: PixelDenoiser, conditioning: Conditioning, noise_seed: int = 0) -> Estimate:
    """At pure noise."""
    assert conditioning.observed is not None
    noise = torch.randn(conditioning.observed.shape, generator=torch.Generator().manual_seed(noise_seed))
    return network.estimate(noise, torch.full((len(noise),), 999), conditioning)


def padded(conditioning: Conditioning, frames: int, acquisitions: int) -> Conditioning:
    def longer(value: Tensor, count: int) -> Tensor:
        return torch.cat([value, value.new_zeros(len(value), count, *value.shape[2:])], dim=1)

    optical = ("optical_dates", "frame_mask", "observed", "gap_mask")
    radar = ("radar", "radar_dates", "radar_mask", "radar_track")
    changed = {name: longer(getattr(conditioning, name), frames) for name in optical}
    return replace(
        conditioning, **changed, **{name: longer(getattr(conditioning, name), acquisitions) for name in radar}
    )


def test_a_padded_batch_is_each_series_alone(network: PixelDenoiser):
    long, short = told(20, 15, 1), told(12, 9, 2)
    other = padded(short, 8, 6)
    together = Conditioning(
        **{
            field.name: torch.cat([getattr(long, field.name), getattr(other, field.name)])
            for field in fields(Conditioning)
            if getattr(long, field.name) is not None
        }
    )
    of_both, of_long, of_short = ask(network, together), ask(network, long), ask(network, short)
    for both, first, second in zip(of_both, of_long, of_short, strict=True):
        torch.testing.assert_close(both[0], first[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(both[1, :12], second[0], atol=1e-5, rtol=0)


def test_dates_moved_by_four_years_mean_the_same(network: PixelDenoiser):
    series = told(14, 9, 3)
    assert series.optical_dates is not None
    assert series.radar_dates is not None
    moved = replace(series, optical_dates=series.optical_dates + 1461, radar_dates=series.radar_dates + 1461)
    assert torch.equal(ask(network, series).mean, ask(network, moved).mean)
    other_season = replace(series, optical_dates=series.optical_dates + 90, radar_dates=series.radar_dates + 90)
    assert (ask(network, series).mean - ask(network, other_season).mean).abs().max() > 1e-4


def test_what_is_hidden_or_no_band_of_the_series_is_never_read(network: PixelDenoiser):
    series = told(14, 9, 4)
    assert series.observed is not None
    assert series.gap_mask is not None
    some = replace(series, band_mask=torch.tensor([[True, False] * 5]))
    poisoned = torch.where(series.gap_mask, torch.nan, series.observed)
    poisoned[:, :, 1::2] = 7.0
    estimate, other = ask(network, some), ask(network, replace(some, observed=poisoned))
    torch.testing.assert_close(estimate.mean, other.mean)
    assert (estimate.mean[:, :, 1::2] == 0).all()
    assert (estimate.deviation[:, :, 1::2] == 1).all()
    assert (estimate.mean[:, :, ::2] != ask(network, series).mean[:, :, ::2]).any()


def test_radar_that_is_masked_out_is_no_radar(network: PixelDenoiser):
    series = told(14, 9, 5)
    assert series.radar_mask is not None
    masked = replace(series, radar_mask=torch.zeros_like(series.radar_mask))
    none = replace(series, radar=None, radar_dates=None, radar_mask=None, radar_track=None)
    torch.testing.assert_close(ask(network, masked).mean, ask(network, none).mean)
    assert (ask(network, series).mean - ask(network, none).mean).abs().max() > 1e-4


def test_pure_noise_tells_nothing_and_less_noise_something(network: PixelDenoiser):
    series = told(14, 9, 6)
    assert torch.equal(ask(network, series, 1).mean, ask(network, series, 2).mean)
    clearer = replace(series, levels=torch.tensor([[0.8, 0.6]]))
    assert (ask(network, clearer, 1).mean - ask(network, clearer, 2).mean).abs().max() > 1e-4


def test_some_pixels_are_those_of_all(network: PixelDenoiser):
    series = told(14, 9, 7)
    pixels = torch.randperm(SIDE * SIDE)[None, :11]
    whole, some = ask(network, series), ask(network, replace(series, pixels=pixels))
    for every, few in zip(whole, some, strict=True):
        torch.testing.assert_close(few[0, :, :, 0], every[0].flatten(2)[..., pixels[0]])
    given = replace(series, evidence=evidence_of(series))
    torch.testing.assert_close(ask(network, given).mean, whole.mean)


def test_a_correction_is_bounded_and_a_deviation_positive():
    network = PixelDenoiser(ModelConfig(network="pixels", hidden_size=16, depth=1, heads=2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(50)
    series = told(9, 5, 8)
    constant = replace(series, observed=torch.full((1, 9, BANDS, SIDE, SIDE), 0.2), radar=None)
    mean, deviation = ask(network, constant)
    seen = (~constant.gap_mask).sum(dim=1, keepdim=True) > 1
    assert ((mean - 0.2).abs() <= 0.3001)[seen.expand_as(mean)].all()
    assert (deviation > 0).all()
    assert deviation.isfinite().all()


def test_an_answer_is_the_mixture_of_its_members(network: PixelDenoiser):
    series, noise = told(14, 9, 9), torch.zeros(1, 14, BANDS, SIDE, SIDE)
    with torch.no_grad():
        first, second = network.estimates(noise, torch.tensor([999]), series)
        both = network.estimate(noise, torch.tensor([999]), series)
    assert (first.mean - second.mean).abs().max() > 1e-3
    torch.testing.assert_close(both.mean, (first.mean + second.mean) / 2)
    second_moment = sum(one.mean.square() + one.deviation.square() for one in (first, second)) / 2
    torch.testing.assert_close(both.deviation, (second_moment - both.mean.square()).sqrt(), atol=1e-5, rtol=1e-4)
    alone = PixelDenoiser(CONFIG.model_copy(update={"members": 1})).eval()
    alone.members[0].load_state_dict(network.members[1].state_dict())
    for one, other in zip(ask(alone, series), second, strict=True):
        torch.testing.assert_close(one, other)


def test_members_learn_each_by_itself(network: PixelDenoiser):
    """The loss is the mean of their losses: that of their mixture would let one make up for the other."""
    series, step = told(14, 9, 10), torch.tensor([999])
    clean, valid = torch.zeros(1, 14, BANDS, SIDE, SIDE), torch.ones(1, 14, 1, SIDE, SIDE, dtype=torch.bool)
    diffusion = DiffusionConfig()
    prediction = Prediction.from_config(diffusion)
    found = training_loss(network, clean, clean, step, series, valid, prediction, diffusion)
    assert series.gap_mask is not None
    at_the_step = replace(series, levels=prediction.schedule.levels(step))
    noisy = torch.where(series.gap_mask, 0, series.observed)
    losses = [
        robust_loss(one, clean, series.gap_mask.expand_as(clean)) for one in network.estimates(noisy, step, at_the_step)
    ]
    torch.testing.assert_close(found, (losses[0] + losses[1]) / 2)


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 4))
@settings(deadline=None)
def test_a_date_looks_at_itself_and_its_nearest_observations(seen: list[bool], nearest: int):
    mask = nearest_observed_mask(torch.tensor(seen)[None, None], nearest)[0, 0]
    for date in range(len(seen)):
        before = [other for other in range(date) if seen[other]][-nearest:]
        after = [other for other in range(date + 1, len(seen)) if seen[other]][:nearest]
        assert mask[date].nonzero()[:, 0].tolist() == sorted({*before, date, *after})

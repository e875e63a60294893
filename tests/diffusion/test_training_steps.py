"""Which steps training sees."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from restore_dit.config import DiffusionConfig
from restore_dit.diffusion.schedule import NoiseSchedule, training_steps


def steps_of(quantiles: torch.Tensor, **settings) -> torch.Tensor:
    config = DiffusionConfig(**settings)
    return training_steps(quantiles, NoiseSchedule.from_config(config), config)


@given(
    quantile=st.floats(0, 1, exclude_max=True, width=32),
    steps=st.integers(2, 2000),
    share=st.floats(0, 1),
)
def test_every_quantile_is_a_step_of_the_schedule(quantile, steps, share):
    step = steps_of(torch.tensor([quantile]), steps=steps, sampled_share=share)
    assert step.dtype == torch.int64
    assert 0 <= step.item() < steps


def test_the_paper_draws_uniformly():
    assert torch.bincount(steps_of(torch.arange(1000) / 1000, steps=10)).tolist() == [100] * 10


def test_a_share_falls_on_what_the_sampler_visits():
    quantiles = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    drawn = steps_of(quantiles, sampled_share=0.5, sampling_steps=2).bincount(minlength=1000)
    uniform = 10_000 * 0.5 / 1000
    assert abs(int(drawn[999]) - 2500 - uniform) <= 1  # visited: 999 and 500
    assert abs(int(drawn[500]) - 2500 - uniform) <= 1
    drawn[[999, 500]] = round(uniform)
    assert (drawn - uniform).abs().max() <= 1
    only = steps_of(quantiles, sampled_share=1.0, sampling_steps=1)
    assert set(only.tolist()) == {999}


def test_logit_normal_has_the_distribution_of_its_name():
    """Against the closed form: P(t ≤ x) = Φ((logit x − mean) / std)."""
    quantiles = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    drawn = steps_of(quantiles, timestep_sampling="logit_normal", logit_mean=0.5, logit_std=0.8)
    for place in (0.1, 0.5, 0.9):
        expected = torch.special.ndtr((torch.logit(torch.tensor(place)) - 0.5) / 0.8)
        assert (drawn < place * 1000).double().mean().item() == pytest.approx(expected.item(), abs=1e-3)
    assert steps_of(torch.tensor([0.0, 1 - 1e-9]), timestep_sampling="logit_normal").tolist() == [8, 991]

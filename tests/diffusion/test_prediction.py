"""From each kind of target the clean series comes back, as diffusers has it; what cannot be is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from restore_dit.config import DiffusionConfig, ModelConfig
from restore_dit.config.loading import load_section
from restore_dit.diffusion.prediction import CLOSE, WIDE, Prediction
from restore_dit.diffusion.samplers import sample_inpainting
from restore_dit.model.conditioning import Conditioning
from restore_dit.model.denoiser import Denoiser
from restore_dit.model.interpolation import interpolate_from_other_dates
from tests.messages import refused

FAMILIES = [
    {"schedule": schedule, "prediction": prediction, "zero_terminal_snr": zero}
    for schedule in ("linear", "scaled_linear", "cosine", "sigmoid")
    for prediction in ("x0", "epsilon", "v")
    for zero in (False, True)
    if not (prediction == "epsilon" and zero)
] + [{"schedule": "straight", "prediction": prediction} for prediction in ("x0", "flow")]


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A clean series in [-1, 1] and noise."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 2, 3, 4, 4)
    clean = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
    return clean, torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@given(step=st.integers(0, 999), seed=st.integers(0, 100))
def test_the_clean_series_comes_back_from_its_target(family, step, seed):
    prediction = Prediction.from_config(DiffusionConfig(**family))
    clean, noise = drawn(seed)
    at = torch.tensor([step])
    state = prediction.schedule.add_noise(clean, noise, at)
    torch.testing.assert_close(prediction.clean(prediction.target(clean, noise, at), state, at), clean)


@pytest.mark.parametrize(("ours", "theirs"), [("epsilon", "epsilon"), ("v", "v_prediction"), ("x0", "sample")])
@pytest.mark.parametrize("step", [0, 400, 999])
def test_targets_and_estimates_are_those_of_diffusers(ours, theirs, step):
    diffusers = pytest.importorskip("diffusers.schedulers.scheduling_ddim")
    oracle = diffusers.DDIMScheduler(beta_start=1e-4, beta_end=0.02, prediction_type=theirs, clip_sample=False)
    oracle.set_timesteps(1000)
    prediction = Prediction.from_config(DiffusionConfig(prediction=ours))
    clean, noise = drawn()
    at = torch.tensor([step])
    target = prediction.target(clean, noise, at)
    if ours == "v":
        torch.testing.assert_close(target, oracle.get_velocity(clean, noise, at), rtol=0, atol=1e-6)
    state = prediction.schedule.add_noise(clean, noise, at)
    expected = oracle.step(target, torch.tensor(step), state).pred_original_sample
    torch.testing.assert_close(prediction.clean(target, state, at), expected.double(), rtol=0, atol=1e-4)


def test_flow_is_the_velocity_from_the_series_to_noise():
    prediction = Prediction.from_config(DiffusionConfig(schedule="straight", prediction="flow"))
    clean, noise = drawn()
    assert torch.equal(prediction.target(clean, noise, torch.tensor([17])), noise - clean)


@pytest.mark.parametrize("kind", ["epsilon", "v"])
def test_an_estimate_stays_within_the_networks_scale(kind):
    prediction = Prediction.from_config(DiffusionConfig(prediction=kind))
    clean, noise = drawn()
    at = torch.tensor([999])
    state = prediction.schedule.add_noise(clean, noise, at)
    estimate = prediction.clean(prediction.target(clean, noise, at) + 5, state, at)
    assert estimate.abs().max() <= 1


OTHERS = [family for family in FAMILIES if family["prediction"] != "x0"]


@pytest.mark.parametrize("family", OTHERS, ids=str)
@pytest.mark.parametrize("step", [0, 300, 700, 999])
@pytest.mark.parametrize(("row", "spread"), [(0, CLOSE), (1, WIDE)], ids=["anchor", "none"])
def test_what_is_known_of_the_target_is_its_least_squares_and_the_rest_has_one_size(family, step, row, spread):
    """Against a regression of the target on x_t and what it is near to; what remains is the network's to say."""
    prediction = Prediction.from_config(DiffusionConfig(**family))
    generator = torch.Generator().manual_seed(step)
    near, residual, noise = torch.randn(3, 400_000, generator=generator, dtype=torch.float64)
    near = near / 2
    clean = near + spread * residual
    at = torch.tensor([step])
    state = prediction.schedule.add_noise(clean[None], noise[None], at)[0]
    target = prediction.target(clean[None], noise[None], at)[0]
    expected = torch.linalg.lstsq(torch.stack([state, near], dim=1), target[:, None]).solution[:, 0]
    of_state, of_near, of_output = prediction.prior_weights(at)[0, row].double()
    guess, best = (w[0] * state + w[1] * near for w in ((of_state, of_near), expected))
    assert (guess - target).square().mean() < 1.001 * (best - target).square().mean() + 1e-9
    output = (target - guess) / of_output
    assert output.std() == pytest.approx(spread, rel=0.01)
    assert (output * residual).mean() >= 0  # and the sign of the series


@pytest.mark.parametrize("family", OTHERS, ids=str)
def test_where_sampling_begins_the_output_is_how_far_the_series_is_from_the_anchor(family):
    """As it is for a network that predicts the clean series: so that one step is as good in every family."""
    prediction = Prediction.from_config(DiffusionConfig(**family))
    clean, noise = drawn()
    at = torch.tensor([999])
    state = prediction.schedule.add_noise(clean / 10, noise, at)
    of_state, _, of_output = prediction.prior_weights(at)[0, 0].double()
    estimate = prediction.clean(of_state * state + of_output * clean / 10, state, at)
    torch.testing.assert_close(estimate, clean / 10, rtol=0, atol=2e-3)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@pytest.mark.parametrize("steps", [1, 4])
def test_a_network_that_says_nothing_yet_fills_gaps_by_interpolation(family, steps):
    """Whatever it is to predict: so that a comparison of families begins at the same place."""
    torch.manual_seed(0)
    config = ModelConfig(hidden_size=16, depth=1, heads=2, radar_channels=())
    denoiser = Denoiser(config).double()
    series = (torch.rand(1, 5, 10, 8, 8, dtype=torch.float64) - 0.5).cumsum(dim=1).tanh() / 2
    gaps = torch.rand(1, 5, 1, 8, 8) < 0.3
    known = Conditioning(optical_dates=torch.arange(5.0)[None] * 5, observed=series, gap_mask=gaps)
    prediction = Prediction.from_config(DiffusionConfig(**family))
    noise = torch.randn(series.shape, dtype=torch.float64)
    filled = sample_inpainting(denoiser, noise, known, prediction, steps, sampler="ddim")
    interpolated = interpolate_from_other_dates(series, ~gaps, known.optical_dates)
    hidden = gaps.expand_as(series)
    assert (filled - interpolated)[hidden].abs().mean() < CLOSE


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        (["prediction=epsilon", "zero_terminal_snr=true"], ["'epsilon'", "zero_terminal_snr", "'v'", "'x0'"]),
        (["prediction=flow"], ["prediction 'flow'", "schedule 'straight'", "'linear'"]),
        (["schedule=straight", "prediction=v"], ["schedule 'straight'", "'flow'", "'x0'", "'v'"]),
        (["schedule=straight", "zero_terminal_snr=true"], ["schedule 'straight'", "zero_terminal_snr"]),
        (["sampler=euler"], ["sampler 'euler'", "schedule 'straight'", "'linear'"]),
        (
            ["loss_weighting=min_snr", "zero_terminal_snr=true"],
            ["loss_weighting 'min_snr'", "'uniform'", "zero_terminal_snr"],
        ),
        (["beta_start=0.03"], ["beta_start 0.03", "beta_end 0.02"]),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(settings, facts):
    with refused(*facts, status=2):
        load_section(DiffusionConfig, settings)

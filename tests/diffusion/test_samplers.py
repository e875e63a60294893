"""Sampling against the published numbers, and every solver against diffusers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from restore_dit.config import DiffusionConfig
from restore_dit.diffusion.prediction import Prediction
from restore_dit.diffusion.samplers import (
    SAMPLERS,
    ddim,
    dpm_solver_pp,
    euler,
    sample_inpainting,
    to_published_scale,
)
from restore_dit.diffusion.schedule import sampling_times
from restore_dit.model.conditioning import Conditioning


@pytest.fixture(scope="module")
def prediction():
    return Prediction.from_config(DiffusionConfig())


@pytest.fixture(scope="module")
def golden(reference):
    with np.load(reference / "sampling.npz") as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


@pytest.fixture(scope="module")
def conditioning(golden):
    return Conditioning(
        optical_dates=golden["date"],
        observed=golden["image"],
        gap_mask=golden["gap_mask"] > 0,
        radar=golden["cond"],
    )


def toy_denoiser(noisy, step, conditioning):
    """f of the fixtures' README."""
    radar = conditioning.radar.mean(dim=2, keepdim=True)
    share = 1 - step.view(-1, 1, 1, 1, 1) / 2000
    return torch.tanh(0.8 * noisy + 0.1 * radar) * share + conditioning.optical_dates[:, :, None, None, None] / 5000


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_published_numbers(golden, conditioning, prediction, steps):
    result = sample_inpainting(toy_denoiser, golden["initial_noise"], conditioning, prediction, steps)
    torch.testing.assert_close(to_published_scale(result), golden[f"dpm_solver_{steps}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 3, 10, 50, 200, 999])
def test_solver_agrees_with_diffusers(prediction, steps):
    """The bare solver, from the same start and the same estimates."""
    diffusers = pytest.importorskip("diffusers.schedulers.scheduling_dpmsolver_multistep")
    oracle = diffusers.DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        prediction_type="sample",
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
        lower_order_final=False,
    )
    oracle.set_timesteps(steps)
    times = sampling_times(prediction.schedule, steps)
    assert oracle.timesteps.tolist() == times
    ours = theirs = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(steps), dtype=torch.float64)
    previous = ours
    for time, update in zip(times, dpm_solver_pp(prediction.schedule, times), strict=True):
        estimate = torch.tanh(ours) * (1 - time / 2000)
        theirs = oracle.step(torch.tanh(theirs) * (1 - time / 2000), torch.tensor(time), theirs).prev_sample
        ours = update.of_state * ours + update.of_estimate * estimate + update.of_previous * previous
        previous = estimate
        torch.testing.assert_close(ours, theirs.double(), rtol=0, atol=2e-5)


def test_times(prediction):
    assert sampling_times(prediction.schedule, 1) == [999]
    assert sampling_times(prediction.schedule, 5) == [999, 799, 599, 400, 200]
    assert sampling_times(prediction.schedule, 5000) == list(range(999, 0, -1))


def test_observed_pixels_come_out_as_they_went_in_and_gaps_are_never_read(golden, conditioning, prediction):
    hidden = torch.where(conditioning.gap_mask, torch.nan, conditioning.observed)
    poisoned = Conditioning(**{**vars(conditioning), "observed": hidden})
    clean = sample_inpainting(toy_denoiser, golden["initial_noise"], conditioning, prediction, 3)
    result = sample_inpainting(toy_denoiser, golden["initial_noise"], poisoned, prediction, 3)
    assert torch.equal(result, clean)
    seen = ~conditioning.gap_mask.expand_as(result)
    assert torch.equal(result[seen], conditioning.observed[seen])


def test_every_step_is_reported(golden, conditioning, prediction):
    calls = []
    result = sample_inpainting(
        toy_denoiser,
        golden["initial_noise"],
        conditioning,
        prediction,
        4,
        on_step=lambda index, total, estimate: calls.append((index, total, estimate)),
    )
    assert [call[:2] for call in calls] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert torch.equal(calls[-1][2], result)


def test_conditioning_without_gaps_is_refused(prediction):
    with pytest.raises(ValueError, match="gap_mask"):
        sample_inpainting(toy_denoiser, torch.zeros(1, 1, 1, 4, 4), Conditioning(), prediction, 1)


ZERO_SNR = {"prediction": "v", "zero_terminal_snr": True}


@pytest.mark.parametrize("settings", [{}, {"schedule": "cosine"}, ZERO_SNR], ids=str)
@pytest.mark.parametrize("steps", [1, 5, 50])
def test_ddim_agrees_with_diffusers(settings, steps):
    scheduling = pytest.importorskip("diffusers.schedulers.scheduling_ddim")
    config = DiffusionConfig(**settings)
    schedule = Prediction.from_config(config).schedule
    oracle = scheduling.DDIMScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="squaredcos_cap_v2" if config.schedule == "cosine" else "linear",
        rescale_betas_zero_snr=config.zero_terminal_snr,
        timestep_spacing="trailing",
        prediction_type="sample",
        clip_sample=False,
    )
    oracle.set_timesteps(steps)
    times = oracle.timesteps.tolist()
    ours = theirs = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(steps), dtype=torch.float64)
    for time, update in zip(times, ddim(schedule, times), strict=True):
        estimate = torch.tanh(ours) * (1 - time / 2000)
        theirs = oracle.step(torch.tanh(theirs) * (1 - time / 2000), time, theirs).prev_sample
        ours = update.of_state * ours + update.of_estimate * estimate
        torch.testing.assert_close(ours, theirs.double(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("steps", [1, 4, 50])
def test_euler_agrees_with_diffusers_and_is_ddim_on_a_straight_line(steps):
    scheduling = pytest.importorskip("diffusers.schedulers.scheduling_flow_match_euler_discrete")
    prediction = Prediction.from_config(DiffusionConfig(schedule="straight", prediction="flow", sampler="euler"))
    times = sampling_times(prediction.schedule, steps)
    oracle = scheduling.FlowMatchEulerDiscreteScheduler()
    oracle.set_timesteps(sigmas=prediction.schedule.noise[times].tolist())
    ours = theirs = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(steps), dtype=torch.float64)
    updates = euler(prediction.schedule, times)
    assert all(
        one.of_state == pytest.approx(other.of_state) and one.of_estimate == pytest.approx(other.of_estimate)
        for one, other in zip(updates, ddim(prediction.schedule, times), strict=True)
    )
    for time, theirs_time, update in zip(times, oracle.timesteps, updates, strict=True):
        velocity = 0.2 * torch.tanh(ours)  # small, so that no estimate leaves the network's scale
        estimate = ours - prediction.schedule.noise[time] * velocity
        theirs = oracle.step(0.2 * torch.tanh(theirs), theirs_time, theirs).prev_sample
        ours = update.of_state * ours + update.of_estimate * estimate
        torch.testing.assert_close(ours, theirs.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", [ZERO_SNR, {"schedule": "straight", "prediction": "flow"}], ids=str)
def test_second_order_begins_at_pure_noise(settings):
    """There λ is −∞: the first two steps are DDIM's, and everything is finite."""
    schedule = Prediction.from_config(DiffusionConfig(**settings)).schedule
    times = sampling_times(schedule, 6)
    first_order, second_order = ddim(schedule, times), dpm_solver_pp(schedule, times)
    for one, other in zip(first_order[:2], second_order[:2], strict=True):
        assert dataclasses.astuple(one) == pytest.approx(dataclasses.astuple(other))
    assert second_order[2].of_previous < 0
    assert all(math.isfinite(value) for update in second_order for value in dataclasses.astuple(update))


FAMILIES = [
    DiffusionConfig(schedule=schedule, prediction=kind, sampler=sampler)
    for schedule, kind in (("linear", "x0"), ("cosine", "epsilon"), ("sigmoid", "v"), ("scaled_linear", "v"))
    for sampler in ("ddim", "dpm_solver_pp")
] + [DiffusionConfig(schedule="straight", prediction="flow", sampler=name) for name in SAMPLERS]


@pytest.mark.parametrize(
    "config", FAMILIES, ids=lambda config: f"{config.schedule}-{config.prediction}-{config.sampler}"
)
@pytest.mark.parametrize("steps", [1, 7])
def test_a_network_that_knows_the_series_gets_it_whatever_it_says(golden, conditioning, config, steps):
    """It answers with the target that follows from the true series and the state which it sees; that it gets observed
    pixels clean and hidden ones noised is part of the answer."""
    prediction = Prediction.from_config(config)
    schedule = prediction.schedule
    noise = golden["initial_noise"].double()  # the little signal of pure noise is lost in float32
    truth = torch.tanh(torch.randn(noise.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    known = dataclasses.replace(conditioning, observed=truth)
    missing = conditioning.gap_mask.expand_as(truth)

    def knowing(noisy, step, told):
        assert torch.equal(noisy[~missing], truth[~missing])
        signal, of_noise = schedule.at(step, noisy)
        return prediction.target(truth, (noisy - signal * truth) / of_noise, step)

    result = sample_inpainting(knowing, noise, known, prediction, steps, sampler=config.sampler)
    torch.testing.assert_close(result, truth, rtol=0, atol=1e-6)

"""Sampling against the published numbers, and DPM-Solver++ against diffusers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore_dit.config import DiffusionConfig
from restore_dit.diffusion.samplers import dpm_solver_pp, sample_inpainting, sampling_times, to_unit_range
from restore_dit.diffusion.schedule import NoiseSchedule
from restore_dit.model.conditioning import Conditioning


@pytest.fixture(scope="module")
def schedule():
    return NoiseSchedule.from_config(DiffusionConfig())


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
def test_published_numbers(golden, conditioning, schedule, steps):
    result = sample_inpainting(toy_denoiser, golden["initial_noise"], conditioning, schedule, steps)
    torch.testing.assert_close(to_unit_range(result), golden[f"dpm_solver_{steps}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 3, 10, 50, 200, 999])
def test_solver_agrees_with_diffusers(schedule, steps):
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
    times = sampling_times(schedule, steps)
    assert oracle.timesteps.tolist() == times
    ours = theirs = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(steps), dtype=torch.float64)
    previous = ours
    for time, update in zip(times, dpm_solver_pp(schedule, times), strict=True):
        estimate = torch.tanh(ours) * (1 - time / 2000)
        theirs = oracle.step(torch.tanh(theirs) * (1 - time / 2000), torch.tensor(time), theirs).prev_sample
        ours = update.of_state * ours + update.of_estimate * estimate + update.of_previous * previous
        previous = estimate
        torch.testing.assert_close(ours, theirs.double(), rtol=0, atol=2e-5)


def test_times(schedule):
    assert sampling_times(schedule, 1) == [999]
    assert sampling_times(schedule, 5) == [999, 799, 599, 400, 200]
    assert sampling_times(schedule, 5000) == list(range(999, 0, -1))


def test_observed_pixels_come_out_as_they_went_in_and_gaps_are_never_read(golden, conditioning, schedule):
    hidden = torch.where(conditioning.gap_mask, torch.nan, conditioning.observed)
    poisoned = Conditioning(**{**vars(conditioning), "observed": hidden})
    clean = sample_inpainting(toy_denoiser, golden["initial_noise"], conditioning, schedule, 3)
    result = sample_inpainting(toy_denoiser, golden["initial_noise"], poisoned, schedule, 3)
    assert torch.equal(result, clean)
    seen = ~conditioning.gap_mask.expand_as(result)
    assert torch.equal(result[seen], conditioning.observed[seen])


def test_every_step_is_reported(golden, conditioning, schedule):
    calls = []
    result = sample_inpainting(
        toy_denoiser,
        golden["initial_noise"],
        conditioning,
        schedule,
        4,
        on_step=lambda index, total, estimate: calls.append((index, total, estimate)),
    )
    assert [call[:2] for call in calls] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert torch.equal(calls[-1][2], result)


def test_conditioning_without_gaps_is_refused(schedule):
    with pytest.raises(ValueError, match="gap_mask"):
        sample_inpainting(toy_denoiser, torch.zeros(1, 1, 1, 4, 4), Conditioning(), schedule, 1)

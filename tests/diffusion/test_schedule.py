"""Every noise schedule against diffusers or its closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore_dit.config import DiffusionConfig
from restore_dit.diffusion.schedule import NoiseSchedule

THEIR_NAMES = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "cosine": "squaredcos_cap_v2",
    "sigmoid": "sigmoid",
}


def schedule_of(**settings) -> NoiseSchedule:
    return NoiseSchedule.from_config(DiffusionConfig(prediction="v", **settings))


@pytest.mark.parametrize("name", THEIR_NAMES)
@pytest.mark.parametrize("steps", [50, 1000])
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_variance_preserving_schedules_are_those_of_diffusers(name, steps, zero_terminal_snr):
    diffusers = pytest.importorskip("diffusers.schedulers.scheduling_ddpm")
    betas = {"beta_start": 3e-4, "beta_end": 0.03}
    oracle = diffusers.DDPMScheduler(
        num_train_timesteps=steps,
        beta_schedule=THEIR_NAMES[name],
        rescale_betas_zero_snr=zero_terminal_snr,
        prediction_type="v_prediction",
        **betas,
    )
    ours = schedule_of(schedule=name, steps=steps, zero_terminal_snr=zero_terminal_snr, **betas)
    # diffusers goes from rescaled ᾱ to betas and back in float32.
    torch.testing.assert_close(ours.alphas_cumprod, oracle.alphas_cumprod, rtol=0, atol=2e-6)
    torch.testing.assert_close(ours.signal**2 + ours.noise**2, torch.ones(steps, dtype=torch.float64))
    assert (ours.signal[-1] == 0) == zero_terminal_snr
    assert (ours.signal.diff() < 0).all()


def test_cosine_follows_its_closed_form_where_no_variance_is_capped():
    ours = schedule_of(schedule="cosine")
    share = np.arange(1, 1001) / 1000
    expected = np.cos((share + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(ours.alphas_cumprod[:990].numpy(), expected[:990], rtol=2e-4, atol=1e-6)


def test_zero_terminal_snr_keeps_the_first_step():
    plain, rescaled = (schedule_of(schedule="linear", zero_terminal_snr=zero) for zero in (False, True))
    torch.testing.assert_close(rescaled.alphas_cumprod[0], plain.alphas_cumprod[0])


def test_straight_is_the_line_from_the_series_to_noise():
    ours = NoiseSchedule.from_config(DiffusionConfig(schedule="straight", prediction="flow", steps=4))
    assert ours.noise.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert ours.signal.tolist() == [0.75, 0.5, 0.25, 0.0]
    clean, noise = torch.full((2, 3), 2.0), torch.full((2, 3), -1.0)
    assert ours.add_noise(clean, noise, torch.tensor([0, 3])).tolist() == [[1.25] * 3, [-1.0] * 3]

"""Forward process and loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore_dit.config import DiffusionConfig
from restore_dit.diffusion.objective import training_loss
from restore_dit.diffusion.prediction import Prediction
from restore_dit.model.conditioning import Conditioning


@pytest.fixture(scope="module")
def prediction():
    return Prediction.from_config(DiffusionConfig())


@pytest.fixture
def example():
    """(target, noise, step, gap_mask) of two small series."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, 4, 8, 8, generator=generator) * 2 - 1
    noise = torch.randn(target.shape, generator=generator)
    gap_mask = torch.rand(2, 3, 1, 8, 8, generator=generator) < 0.3
    return target, noise, torch.tensor([10, 700]), gap_mask


def test_forward_process_is_the_published_one(reference, prediction):
    with np.load(reference / "forward_process.npz") as stored:
        golden = {name: torch.from_numpy(stored[name]) for name in stored.files}
    torch.testing.assert_close(prediction.schedule.alphas_cumprod, golden["alphas_cumprod"], rtol=0, atol=0)
    noisy = prediction.schedule.add_noise(golden["x0"], golden["noise"], golden["timesteps"])
    torch.testing.assert_close(noisy, golden["noisy"], rtol=0, atol=1e-6)


def half(noisy, step, conditioning):
    return noisy / 2


def test_loss_over_all_is_the_papers(prediction, example):
    target, noise, step, gap_mask = example
    conditioning = Conditioning(observed=target, gap_mask=gap_mask)
    loss = training_loss(
        half,
        target,
        noise,
        step,
        conditioning,
        torch.ones_like(gap_mask),
        prediction,
        DiffusionConfig(loss_over="all"),
    )
    mask = gap_mask.float()
    estimate = (mask * prediction.schedule.add_noise(target, noise, step) + (1 - mask) * target) / 2
    torch.testing.assert_close(loss.mean(), (mask * target - mask * estimate).square().mean())
    assert loss.shape == (2,)


def test_loss_over_missing_counts_only_what_is_missing_and_known(prediction, example):
    target, noise, step, gap_mask = example
    valid = torch.rand(gap_mask.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    valid[1] = False
    unknown = torch.where(valid, target, torch.nan)
    seen = torch.where(gap_mask, torch.nan, target)
    inputs = []

    def denoiser(noisy, step, conditioning):
        inputs.append(noisy)
        return noisy / 2

    loss = training_loss(
        denoiser,
        unknown,
        noise,
        step,
        Conditioning(observed=seen, gap_mask=gap_mask),
        valid,
        prediction,
        DiffusionConfig(loss_over="missing"),
    )
    assert inputs[0].isfinite().all()
    counted = (gap_mask & valid)[0].expand_as(target[0])
    noisy = prediction.schedule.add_noise(target, noise, step)[0]
    torch.testing.assert_close(loss[0], (noisy / 2 - target[0])[counted].square().mean())
    assert loss[1] == 0


def test_loss_has_finite_gradients_where_nothing_is_missing(prediction, example):
    target, noise, step, gap_mask = example
    scale = torch.ones((), requires_grad=True)
    loss = training_loss(
        lambda noisy, step, conditioning: noisy * scale,
        target,
        noise,
        step,
        Conditioning(observed=target, gap_mask=torch.zeros_like(gap_mask)),
        torch.ones_like(gap_mask),
        prediction,
        DiffusionConfig(loss_over="missing"),
    )
    loss.sum().backward()
    assert loss.sum() == 0
    assert scale.grad == 0


def test_what_is_seen_through_a_veil_is_given_as_it_looks_and_scored_by_what_is_there(prediction, example):
    target, noise, step, gap_mask = example
    veiled = ~gap_mask & (torch.rand(gap_mask.shape, generator=torch.Generator().manual_seed(2)) < 0.2)
    seen = torch.where(veiled, 0.9, target)
    inputs = []

    def denoiser(noisy, step, conditioning):
        inputs.append(noisy)
        return noisy

    loss = training_loss(
        denoiser,
        target,
        noise,
        step,
        Conditioning(observed=seen, gap_mask=gap_mask),
        torch.ones_like(gap_mask),
        prediction,
        DiffusionConfig(loss_over="missing"),
        veiled,
    )
    assert (inputs[0][veiled.expand_as(target)] == 0.9).all()
    noisy = torch.where(gap_mask, prediction.schedule.add_noise(target, noise, step), seen)
    for index in range(2):
        counted = (gap_mask | veiled)[index].expand_as(target[index])
        torch.testing.assert_close(loss[index], (noisy - target)[index][counted].square().mean())

"""The loss of a mean and its deviation."""

from __future__ import annotations

import math

import pytest
import torch

from restore_dit.diffusion.objective import KNEE, robust_loss
from restore_dit.model.pixel_denoiser import RESIDUAL_SCALE, Estimate

SHAPE = (2, 3, 2, 1, 5)


def loss(error: float, deviation: float, counted: torch.Tensor | None = None) -> torch.Tensor:
    estimate = Estimate(torch.full(SHAPE, error), torch.full(SHAPE, deviation))
    everything = torch.ones(SHAPE, dtype=torch.bool)
    return robust_loss(estimate, torch.zeros(SHAPE), everything if counted is None else counted)


@pytest.mark.parametrize("error", [0.01, 0.3])
def test_its_parts_by_hand(error: float):
    huber = 0.5 * error**2 / KNEE if error < KNEE else error - KNEE / 2
    likelihood = (math.log(0.1) + 0.5 * error**2 / 0.1**2) * 0.1 / RESIDUAL_SCALE
    frames = 0.5 * math.log(error**2 + 1e-4)
    expected = huber / RESIDUAL_SCALE + 0.1 * likelihood + 0.3 * frames
    torch.testing.assert_close(loss(error, 0.1), torch.full((2,), expected))


def test_the_best_deviation_is_the_size_of_the_error():
    spread = torch.full(SHAPE, 0.05, requires_grad=True)
    robust_loss(
        Estimate(torch.full(SHAPE, 0.05), spread), torch.zeros(SHAPE), torch.ones(SHAPE, dtype=torch.bool)
    ).sum().backward()
    assert spread.grad is not None
    assert spread.grad.abs().max() < 1e-6


def test_the_deviation_moves_no_mean_and_the_mean_no_deviation():
    mean, spread = torch.full(SHAPE, 0.05, requires_grad=True), torch.full(SHAPE, 0.2, requires_grad=True)
    gradients = []
    for deviation in (spread, spread * 2):
        total = robust_loss(Estimate(mean, deviation), torch.zeros(SHAPE), torch.ones(SHAPE, dtype=torch.bool)).sum()
        gradients.append(torch.autograd.grad(total, mean)[0])
    torch.testing.assert_close(*gradients)


def test_an_example_with_nothing_to_count_costs_nothing():
    counted = torch.ones(SHAPE, dtype=torch.bool)
    counted[0] = False
    first, second = loss(0.3, 0.1, counted)
    assert first == 0
    assert second == loss(0.3, 0.1)[1]

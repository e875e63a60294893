"""The denoiser computes what the published one does, to float precision."""

from __future__ import annotations

import pytest
import torch

from restore_dit.model.conditioning import axis_table, position_table
from restore_dit.model.denoiser import Denoiser
from restore_dit.model.published import read_published_checkpoint

NAMES = ("default", "without_dates", "without_sar")


@pytest.fixture(params=NAMES)
def case(request, golden, tmp_path):
    """(golden numbers, our denoiser with the published weights)."""
    numbers = golden(request.param)
    config, weights = read_published_checkpoint(numbers.saved(tmp_path / "published.pth"))
    denoiser = Denoiser(config)
    denoiser.load_state_dict(weights)
    return numbers, denoiser


@pytest.mark.parametrize("activation_checkpointing", [False, True])
def test_output_loss_and_gradient(case, activation_checkpointing):
    numbers, denoiser = case
    denoiser.activation_checkpointing = activation_checkpointing
    output = denoiser(numbers.arrays["x"], numbers.arrays["t"], numbers.conditioning)
    expected = numbers.arrays["y"]
    torch.testing.assert_close(output, expected, rtol=0, atol=2e-6 * expected.abs().max().item())
    loss = output.square().mean()
    torch.testing.assert_close(loss.double(), numbers.arrays["loss"], rtol=1e-6, atol=0)
    loss.backward()
    gradient = numbers.arrays["grad_x_embedder"]
    ours = denoiser.optical_embedding.projection.weight.grad.view_as(gradient)
    torch.testing.assert_close(ours, gradient, rtol=0, atol=5e-6 * gradient.abs().max().item())


def test_without_gradients_it_is_the_same(case):
    """There updates are in place and examples go one by one."""
    numbers, denoiser = case
    with torch.inference_mode():
        output = denoiser(numbers.arrays["x"], numbers.arrays["t"], numbers.conditioning)
    torch.testing.assert_close(output, numbers.arrays["y"], rtol=0, atol=5e-6)


@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_bf16_stays_close(case, how):
    numbers, denoiser = case
    arguments = (numbers.arrays["x"], numbers.arrays["t"], numbers.conditioning)
    if how == "weights":
        output = denoiser.bfloat16()(*arguments)
    else:
        with torch.autocast("cpu", torch.bfloat16):
            output = denoiser(*arguments)
    assert output.dtype == torch.float32
    error = (output - numbers.arrays["y"]).square().mean().sqrt()
    assert error < 0.01 * numbers.arrays["y"].std()
    output.square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in denoiser.parameters())


def test_position_tables_are_the_published_ones(golden):
    weights, size = golden("default").weights, golden("default").config["hidden_size"]
    positions = position_table(4, 4, size).float()
    torch.testing.assert_close(positions[None], weights["pos_embed"], rtol=0, atol=1e-6)
    torch.testing.assert_close(axis_table(6, size).float()[None], weights["time_embed"], rtol=0, atol=1e-6)

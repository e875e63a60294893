"""What the denoiser promises beyond the published one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_dit.config import ModelConfig, paper
from restore_dit.model.attention import ProductGradient, attend
from restore_dit.model.conditioning import Conditioning
from restore_dit.model.denoiser import Denoiser
from restore_dit.model.interpolation import interpolate_gaps

BANDS = ("B02", "B03", "B04")
SMALL = ModelConfig(bands=BANDS, hidden_size=32, depth=2, heads=2)
PAPER = ModelConfig(
    bands=BANDS, hidden_size=32, depth=2, heads=2, radar_attention="paired", gap_channel=False, anchor="none"
)
BOTH = pytest.mark.parametrize("config", [SMALL, PAPER], ids=["default", "paper"])


def trained(config: ModelConfig, seed: int = 0) -> Denoiser:
    """A denoiser whose every weight is random, as if trained."""
    torch.manual_seed(seed)
    denoiser = Denoiser(config)
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return denoiser.eval()


def inputs(frames: int = 5, radar_frames: int | None = None, batch: int = 2, size: tuple[int, int] = (8, 12)):
    """(noisy, step, conditioning) with every field present."""
    generator = torch.Generator().manual_seed(frames)
    radar_frames = radar_frames or frames
    observed = torch.randn(batch, frames, len(BANDS), *size, generator=generator)
    conditioning = Conditioning(
        optical_dates=torch.arange(frames).expand(batch, -1) * 7.0,
        frame_mask=torch.ones(batch, frames, dtype=torch.bool),
        observed=observed,
        gap_mask=torch.rand(batch, frames, 1, *size, generator=generator) < 0.4,
        radar=torch.randn(batch, radar_frames, 3, *size, generator=generator),
        radar_dates=torch.arange(radar_frames).expand(batch, -1) * 5.0 + 2,
        radar_mask=torch.ones(batch, radar_frames, dtype=torch.bool),
    )
    noise = torch.randn(observed.shape, generator=generator)
    return torch.where(conditioning.gap_mask, noise, observed), torch.tensor([3, 900])[:batch], conditioning


def padded(conditioning: Conditioning, frames: int, radar_frames: int) -> Conditioning:
    """More optical and radar frames, full of values that must not matter, marked as padding."""

    def longer(tensor, count, value):
        return torch.cat([tensor, torch.full_like(tensor[:, :1], value).expand(-1, count, *tensor.shape[2:])], dim=1)

    return Conditioning(
        optical_dates=longer(conditioning.optical_dates, frames, 12345),
        frame_mask=longer(conditioning.frame_mask, frames, False),
        observed=longer(conditioning.observed, frames, 77),
        gap_mask=longer(conditioning.gap_mask, frames, False),
        radar=longer(conditioning.radar, radar_frames, -55),
        radar_dates=longer(conditioning.radar_dates, radar_frames, 999),
        radar_mask=longer(conditioning.radar_mask, radar_frames, False),
    )


@BOTH
@pytest.mark.parametrize("checkpointing", [False, True])
def test_padding_changes_nothing(config, checkpointing):
    denoiser = trained(config)
    denoiser.activation_checkpointing = checkpointing
    noisy, step, conditioning = inputs(frames=5)
    plain = denoiser(noisy, step, conditioning)
    more = torch.cat([noisy, torch.full_like(noisy[:, :3], 9.0)], dim=1)
    with_padding = denoiser(more, step, padded(conditioning, 3, 3))
    assert with_padding.isfinite().all()
    torch.testing.assert_close(with_padding[:, :5], plain, rtol=0, atol=2e-5)


@BOTH
def test_padding_gets_no_gradient(config):
    denoiser = trained(config)
    noisy, step, conditioning = inputs(frames=4)
    more = torch.cat([noisy, torch.zeros_like(noisy[:, :2])], dim=1).requires_grad_()
    denoiser(more, step, padded(conditioning, 2, 2))[:, :4].sum().backward()
    assert more.grad[:, 4:].abs().max() == 0
    assert more.grad[:, :4].abs().max() > 0


@BOTH
def test_a_series_without_radar_is_as_if_none_were_given(config):
    """Whether the radar is absent or all masked, and whatever its neighbour in the batch has."""
    denoiser = trained(config)
    noisy, step, conditioning = inputs(frames=5)
    mask = conditioning.radar_mask.clone()
    mask[0] = False
    output = denoiser(noisy, step, replace(conditioning, radar_mask=mask))
    without = denoiser(noisy, step, replace(conditioning, radar=None, radar_dates=None, radar_mask=None))
    full = denoiser(noisy, step, conditioning)
    torch.testing.assert_close(output[0], without[0], rtol=0, atol=2e-5)
    torch.testing.assert_close(output[1], full[1], rtol=0, atol=2e-5)
    assert not torch.allclose(full[0], without[0], atol=1e-2)
    output.square().mean().backward()
    assert all(p.grad.isfinite().all() for p in denoiser.parameters())


def test_radar_at_its_own_dates_may_be_any_number_in_any_order():
    denoiser = trained(SMALL)
    noisy, step, conditioning = inputs(frames=5, radar_frames=9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    shuffled = replace(
        conditioning,
        radar=conditioning.radar[:, order],
        radar_dates=conditioning.radar_dates[:, order],
        radar_mask=conditioning.radar_mask[:, order],
    )
    output = denoiser(noisy, step, conditioning)
    torch.testing.assert_close(denoiser(noisy, step, shuffled), output, rtol=0, atol=2e-5)
    later = replace(conditioning, radar_dates=conditioning.radar_dates + 40)
    assert not torch.allclose(denoiser(noisy, step, later), output, atol=1e-2)


def test_an_untrained_denoiser_returns_the_interpolation():
    denoiser = Denoiser(SMALL)
    noisy, step, conditioning = inputs()
    expected = interpolate_gaps(conditioning.observed, ~conditioning.gap_mask, conditioning.optical_dates)
    missing = conditioning.gap_mask.expand_as(noisy)
    assert torch.equal(denoiser(noisy, step, conditioning)[missing], expected[missing])
    assert torch.equal(Denoiser(PAPER)(noisy, step, conditioning), torch.zeros_like(noisy))


def test_what_lies_under_a_gap_is_never_read():
    denoiser = trained(SMALL)
    noisy, step, conditioning = inputs()
    poisoned = replace(conditioning, observed=torch.where(conditioning.gap_mask, torch.nan, conditioning.observed))
    assert torch.equal(denoiser(noisy, step, poisoned), denoiser(noisy, step, conditioning))


def test_the_network_sees_the_gap_mask():
    denoiser = trained(ModelConfig(**{**PAPER.model_dump(), "gap_channel": True}))
    noisy, step, conditioning = inputs()
    nothing_missing = replace(conditioning, gap_mask=torch.zeros_like(conditioning.gap_mask))
    without = denoiser(noisy, step, replace(conditioning, gap_mask=None))
    torch.testing.assert_close(without, denoiser(noisy, step, nothing_missing))
    assert not torch.allclose(without, denoiser(noisy, step, conditioning), atol=1e-2)


@BOTH
def test_no_conditioning_at_all(config):
    noisy, step, _ = inputs()
    assert trained(config)(noisy, step, Conditioning()).isfinite().all()


@BOTH
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_examples_of_a_batch_do_not_see_each_other(config, precision):
    denoiser = trained(config)
    noisy, step, conditioning = inputs()
    second = (noisy[1:], step[1:], conditioning.examples(slice(1, 2)))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        together, alone = denoiser(noisy, step, conditioning)[1:], denoiser(*second)
        with torch.inference_mode():
            assert torch.equal(denoiser(*second), denoiser(noisy, step, conditioning)[1:])
    scale = together.std().item()
    torch.testing.assert_close(alone, together, rtol=0, atol=(1e-5 if precision == "fp32" else 0.1) * scale)


@BOTH
@settings(max_examples=10)
@given(frames=st.integers(1, 7), rows=st.integers(1, 4), columns=st.integers(1, 4))
def test_any_length_and_size(config, frames, rows, columns):
    noisy, step, conditioning = inputs(frames=frames, size=(4 * rows, 4 * columns))
    assert Denoiser(config)(noisy, step, conditioning).shape == noisy.shape


def test_a_size_that_patches_do_not_divide_is_refused():
    noisy, step, conditioning = inputs(size=(8, 10))
    with pytest.raises(ValueError, match="8×10"):
        Denoiser(PAPER)(noisy, step, conditioning)


@BOTH
def test_tables_made_while_sampling_serve_training(config):
    denoiser = trained(config)
    noisy, step, conditioning = inputs()
    with torch.inference_mode():
        denoiser(noisy, step, conditioning)
    denoiser(noisy, step, conditioning).sum().backward()


@pytest.mark.parametrize("masked", [False, True])
def test_fused_attention_is_the_written_out_one(masked):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 7, 16, generator=generator, dtype=torch.float64) for _ in range(3))
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3]) if masked else None

    def heads(tensor):
        return tensor.view(2, 3, 7, 4, 4).transpose(2, 3)

    scores = heads(query) @ heads(key).transpose(-1, -2) / math.sqrt(4)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, None], -math.inf)
    expected = (scores.softmax(dim=-1) @ heads(value)).transpose(2, 3).reshape(2, 3, 7, 16)
    torch.testing.assert_close(attend(query, key, value, 4, mask), expected)


def test_parameters_of_the_paper():
    """10.09 M with the class table of 0.26 M that the published network holds but never reads."""
    with torch.device("meta"):
        denoiser = Denoiser(paper().model)
    assert sum(parameter.numel() for parameter in denoiser.parameters()) + 1001 * 256 == pytest.approx(
        10.09e6, rel=1e-3
    )


def test_a_given_anchor_takes_the_place_of_the_interpolation():
    noisy, step, conditioning = inputs()
    anchor = torch.randn(noisy.shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(Denoiser(SMALL)(noisy, step, replace(conditioning, anchor=anchor)), anchor)
    assert torch.equal(Denoiser(PAPER)(noisy, step, replace(conditioning, anchor=anchor)), torch.zeros_like(anchor))


def test_published_initialisation():
    denoiser = Denoiser(paper().model)
    block = denoiser.blocks[0]
    zero = [block.modulation.weight, denoiser.head.weight, denoiser.head_modulation.weight, block.mlp[0].bias]
    assert not any(weight.any() for weight in zero)
    assert denoiser.step_embedding.expand.weight.std().item() == pytest.approx(0.02, rel=0.02)
    bounds = {
        denoiser.optical_embedding.projection.weight: math.sqrt(6 / (160 + 256)),
        denoiser.radar_embedding.projection.weight: 1 / math.sqrt(48),
        block.temporal.query_key_value.weight: math.sqrt(6 / (256 + 768)),
        block.radar.temporal.key_value.weight: math.sqrt(6 / (256 + 256)),
        block.mlp[2].weight: math.sqrt(6 / (1024 + 256)),
    }
    for weight, bound in bounds.items():
        assert weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize("masked", [False, True])
def test_gradient_of_attention_by_products(masked):
    generator = torch.Generator().manual_seed(0)
    shapes = ((5, 3, 8, 16), (5, 3, 11, 16), (5, 3, 11, 16))
    arguments = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    mask = (torch.rand(5, 1, 1, 11, generator=generator) < 0.6).expand(-1, 1, 8, -1) if masked else None
    if mask is not None:
        mask = mask | (torch.arange(11) == 0)
    output = ProductGradient.apply(*arguments, mask)
    expected = torch.nn.functional.scaled_dot_product_attention(*arguments, attn_mask=mask)
    weight = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad(result, arguments, weight) for result in (output, expected))
    for one, other in zip((output, *ours), (expected, *theirs), strict=True):
        torch.testing.assert_close(one, other)


@BOTH
def test_gradients_in_bf16_are_those_in_fp32_but_for_rounding(config):
    denoiser = trained(config)
    noisy, step, conditioning = inputs()
    gradients = []
    for enabled in (False, True):
        denoiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = denoiser(noisy, step, conditioning)
        (output - conditioning.observed).square().mean().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in denoiser.parameters()]))
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.999

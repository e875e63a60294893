"""The pixel network: a transformer over the dates of each pixel. Its inputs are what classical methods know; its output
is a mixture of classical predictions plus a correction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from restore_dit.config import ModelConfig
from restore_dit.model.conditioning import Conditioning, StepEmbedding
from restore_dit.model.evidence import YEAR, Evidence, RadarSeries, gather_evidence, in_a_row, pixels_of

RESIDUAL_SCALE = 0.1
"""Typical departure from the kriged series on the network's scale; the unit of inputs and outputs."""

_LARGEST_CORRECTION = 3.0  # in this unit
_LOG_DEVIATION = (-4.0, 0.5)  # minimum and maximum of ln σ, with σ in this unit
_CANDIDATES = 8
_PAIR_FEATURES = 8
_TOKENS_AT_ONCE = 16_384  # on a CPU without gradients, so that a layer's activations stay in the cache
_TOKENS_ON_A_GPU = 2**19


class Estimate(NamedTuple):
    """`mean` [B, T, C, H, W] on the network's scale, and its standard `deviation` in the same shape."""

    mean: Tensor
    deviation: Tensor


class PixelDenoiser(nn.Module):
    """Estimates the clean series for B series of any length, size, pixel size and subset of `config.bands`.

    It is an ensemble of `config.members` networks with the same inputs and different initial weights, whose estimates
    are averaged.

    Of a noisy state, the networks only get the information that it still contains about the clean series. At the last
    step of a noise schedule this is little or nothing, so sampling in one step returns the mean, whatever the seed.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.radar_inputs = 2 * (6 * len(config.radar_channels) + 1) if config.radar_channels else 0
        inputs = 16 * len(config.bands) + 13 + self.radar_inputs
        self.members = nn.ModuleList(PixelNetwork(config, inputs) for _ in range(config.members))

    def forward(self, noisy: Tensor, step: Tensor, conditioning: Conditioning) -> Tensor:
        """The mean of `estimate`: [B, T, C, H, W], or [B, T, C, 1, P] if the conditioning selects `pixels`."""
        return self.estimate(noisy, step, conditioning).mean

    def estimate(self, noisy: Tensor, step: Tensor, conditioning: Conditioning) -> Estimate:
        """Mean and standard deviation of the clean series, in the shape of `forward`; 0 and 1 in bands that a series
        lacks.

        noisy: [B, T, C, H, W] with noise in the gaps. step: [B] of the noise schedule; the `levels` of the conditioning
        give the amounts of signal and noise at that step (if absent, pure noise).

        Raises:
            ValueError: the conditioning lacks `observed`, `gap_mask` or `optical_dates`.
        """
        return pooled(self.estimates(noisy, step, conditioning))

    def estimates(self, noisy: Tensor, step: Tensor, conditioning: Conditioning) -> list[Estimate]:
        """The estimate of each network of the ensemble; see `estimate`."""
        evidence = conditioning.evidence or evidence_of(conditioning)
        shape = noisy.shape
        pixels = conditioning.pixels
        if pixels is None:
            evidence, noisy = evidence.map(in_a_row), in_a_row(noisy)
        else:
            evidence, noisy = evidence.map(lambda images: pixels_of(images, pixels)), pixels_of(noisy, pixels)
            shape = noisy.shape
        dates, bands = conditioning.optical_dates, conditioning.band_mask
        assert dates is not None
        if bands is None:
            bands = torch.ones(len(noisy), noisy.shape[2], dtype=torch.bool, device=noisy.device)
        with torch.autocast(noisy.device.type, enabled=False):  # few values, but they scale every token
            settings = [member.settings(step, dates) for member in self.members]  # type: ignore[operator]
        noise_evidence = _departure_given_noisy(noisy, evidence.kriged, conditioning.levels)
        parts: list[list[Estimate]] = [[] for _ in self.members]
        for chosen in self._parts(noisy):
            few = evidence.map(lambda images: images[..., chosen])  # noqa: B023 (called at once)
            inputs = self.token_inputs(few, noise_evidence[..., chosen], dates, bands)
            mask = nearest_observed_mask(few.observed[:, :, 0, 0].transpose(1, 2), self.config.nearest)
            for member, setting, member_parts in zip(self.members, settings, parts, strict=True):
                member_parts.append(member(inputs, setting, mask, few, bands))
        return [
            Estimate(*(torch.cat(each, dim=-1).reshape(shape) for each in zip(*member_parts, strict=True)))
            for member_parts in parts
        ]

    def _parts(self, noisy: Tensor) -> Iterator[slice]:
        """Ranges of pixels to process together: all at once with gradients, otherwise limited by memory."""
        batch, frames, *_, pixels = noisy.shape
        most = pixels
        if not torch.is_grad_enabled():
            most = max(1, (_TOKENS_AT_ONCE if noisy.device.type == "cpu" else _TOKENS_ON_A_GPU) // (batch * frames))
        for first in range(0, pixels, most):
            yield slice(first, first + most)

    def token_inputs(self, evidence: Evidence, noise_evidence: Tensor, dates: Tensor, bands: Tensor) -> Tensor:
        """The input features of each date of each pixel, [B, P, T, F].

        evidence: of P pixels in a row, [B, T, C, 1, P]. noise_evidence: estimate of the departure from kriging given
        the noisy state, in the same shape; 0 where the state is pure noise. dates: [B, T] days. bands: [B, C], true
        where a series has a band.
        """
        present = bands[:, None, :, None, None].to(noise_evidence.dtype)
        kriged = evidence.kriged
        departures = [
            evidence.local_mean - kriged,
            evidence.smooth - kriged,
            evidence.departure,
            evidence.linear - kriged,
            evidence.before - kriged,
            evidence.after - kriged,
            evidence.frame_offset,
            evidence.wide_offset,
            evidence.near_offset,
            noise_evidence,
        ]
        # Brighter ground than training showed counts as its brightest; departures from it are relative to `kriged`.
        band_features = [2 * kriged.clamp(max=1) * present, *(each * (present / RESIDUAL_SCALE) for each in departures)]
        angle = (2 * math.pi / YEAR) * (dates % YEAR).to(noise_evidence.dtype)
        season = torch.stack([angle.sin(), angle.cos(), (2 * angle).sin(), (2 * angle).cos()], dim=2)
        days = [evidence.days_before, evidence.days_after]
        pixel_features = [
            evidence.observed.to(noise_evidence.dtype),
            evidence.spread,
            evidence.near_weight.log1p() / 2,
            evidence.wide_weight.log1p() / 3,
            evidence.coverage,
            *(each.log1p() / 3 for each in days),
            *(torch.exp(-each / 25) for each in days),
        ]
        in_bands = present.expand(-1, noise_evidence.shape[1], -1, -1, -1)
        statistics = evidence.departure_statistics * in_bands.repeat(1, 1, 4, 1, 1)
        frame_features = [in_bands, statistics, season[..., None, None]]
        radar = evidence.radar
        if not radar.shape[2]:
            radar = noise_evidence.new_zeros(*noise_evidence.shape[:2], self.radar_inputs, *noise_evidence.shape[3:])
        wide = [
            each.expand(-1, -1, -1, -1, noise_evidence.shape[-1])
            for each in [*band_features, *pixel_features, *frame_features, radar]
        ]
        return torch.cat(wide, dim=2)[:, :, :, 0].permute(0, 3, 1, 2)


class Settings(NamedTuple):
    """Inputs shared by all pixels, one per block of a network: `modulations` [B, 6·D] and attention `biases`
    [B, heads, T, T]."""

    modulations: list[Tensor]
    biases: list[Tensor]


class PixelNetwork(nn.Module):
    """One network of the ensemble. Each date of a pixel is a token, which attends to itself and to the
    `config.nearest` observed dates on either side. The mean of each band is Σ wₖ·cₖ + g·r, where the candidates c are
    predictions by kriging, interpolation and the frame's visible pixels, w are softmax weights, r is a bounded
    correction and g a gate that is initially almost closed. The network also predicts the standard deviation σ."""

    def __init__(self, config: ModelConfig, inputs: int) -> None:
        super().__init__()
        self.count = len(config.bands)
        size = config.hidden_size
        self.embedding = nn.Linear(inputs, size)
        self.step_embedding = StepEmbedding(size)
        self.blocks = nn.ModuleList(PixelBlock(config) for _ in range(config.depth))
        self.head_norm = nn.LayerNorm(size)
        self.head = nn.Linear(size, self.count * (_CANDIDATES + 3) + 1)
        with torch.no_grad():  # start close to kriging
            self.head.weight *= 0.1
            self.head.bias.zero_()
            self.head.bias[: self.count] = 1.5  # weight of kriging
            self.head.bias[_CANDIDATES * self.count : (_CANDIDATES + 1) * self.count] = -2.0  # gate of the correction

    def settings(self, step: Tensor, dates: Tensor) -> Settings:
        """The shared inputs for a diffusion step [B] and dates [B, T]."""
        step_code = functional.silu(self.step_embedding(step))
        return Settings(
            [block.modulation(step_code) for block in self.blocks],  # type: ignore[operator]
            [block.date_bias(dates) for block in self.blocks],  # type: ignore[operator]
        )

    def forward(self, inputs: Tensor, settings: Settings, mask: Tensor, evidence: Evidence, bands: Tensor) -> Estimate:
        """Mean and standard deviation, [B, T, C, P] each.

        inputs: [B, P, T, F] features of each date. mask: from `nearest_observed_mask`. evidence: of the P pixels in
        a row. bands: [B, C], true where a series has a band.
        """
        tokens = self.embedding(inputs)
        for block, modulation, bias in zip(self.blocks, *settings, strict=True):
            tokens = block(tokens, modulation, bias, mask)
        count = self.count
        head = self.head(self.head_norm(tokens)).float().permute(0, 2, 3, 1)
        logits, gate, correction, log_deviation, common = head.split(
            [_CANDIDATES * count, count, count, count, 1], dim=2
        )
        kriged = evidence.kriged[:, :, :, 0]
        mixed = logits.unflatten(2, (_CANDIDATES, count)).softmax(dim=2)
        mean = mixed[:, :, 0] * kriged
        for share, candidate in zip(mixed[:, :, 1:].unbind(2), self._other_candidates(evidence), strict=True):
            mean = mean + share * candidate
        mean = mean + gate.sigmoid() * correction.tanh() * (_LARGEST_CORRECTION * RESIDUAL_SCALE)
        deviation = (log_deviation + common).clamp(*_LOG_DEVIATION).exp() * RESIDUAL_SCALE
        present = bands[:, None, :, None]
        return Estimate(mean * present, torch.where(present, deviation, 1))

    @staticmethod
    def _other_candidates(evidence: Evidence) -> list[Tensor]:
        """The candidates besides kriging, [B, T, C, P] each."""
        kriged = evidence.kriged
        candidates = [
            evidence.smooth,
            evidence.linear,
            evidence.before,
            evidence.after,
            kriged + evidence.frame_offset,
            kriged + evidence.wide_offset,
            kriged + evidence.near_offset,
        ]
        return [candidate[:, :, :, 0] for candidate in candidates]


class PixelBlock(nn.Module):
    """Attention among the dates of a pixel, and an MLP, each after a norm modulated by the diffusion step."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size, inner = config.hidden_size, int(config.hidden_size * config.mlp_ratio)
        self.heads = config.heads
        self.modulation = nn.Linear(size, 6 * size)
        self.attention_norm, self.mlp_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.query_key_value = nn.Linear(size, 3 * size)
        self.output = nn.Linear(size, size)
        self.date_bias = DateBias(config.heads)
        self.expand, self.project = nn.Linear(size, inner), nn.Linear(inner, size)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        with torch.no_grad():
            self.output.weight *= 0.3
            self.project.weight *= 0.3

    def forward(self, tokens: Tensor, modulation: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
        """Transforms tokens [B, P, T, D], given `modulation` [B, 6·D], `bias` [B, heads, T, T] and `mask` [B, P, T, T],
        true where a date may attend to another."""
        shift, scale, gate, *mlp_modulation = modulation[:, None, None].to(tokens.dtype).chunk(6, dim=-1)
        normed = self.attention_norm(tokens) * (1 + scale) + shift
        query, key, value = self.query_key_value(normed).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2) + bias[:, None].to(query.dtype)
        shares = scores.masked_fill(~mask[:, :, None], -1e4).softmax(dim=-1)
        mixed = (shares.to(value.dtype) @ value).transpose(2, 3).flatten(3)
        tokens = tokens + (1 + gate) * self.output(mixed)
        shift, scale, gate = mlp_modulation
        inner = functional.gelu(self.expand(self.mlp_norm(tokens) * (1 + scale) + shift), approximate="tanh")
        changed: Tensor = tokens + (1 + gate) * self.project(inner)
        return changed


class DateBias(nn.Module):
    """Learned attention bias between two dates from the days between them, for each head."""

    def __init__(self, heads: int, inner: int = 32) -> None:
        super().__init__()
        self.expand, self.project = nn.Linear(_PAIR_FEATURES, inner), nn.Linear(inner, heads)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, dates: Tensor) -> Tensor:
        """The bias [B, heads, T, T] for dates [B, T] in days; rows are queries, columns are keys."""
        days = (dates[:, None] - dates[:, :, None]).float()
        apart, angle = days.abs(), (2 * math.pi / YEAR) * days
        features = [
            days.clamp(-200, 200) / 50,
            apart.log1p() / 3,
            *(torch.exp(-apart / memory) for memory in (8, 25, 80)),
            angle.cos(),
            angle.sin(),
            (apart == 0).float(),
        ]
        bias: Tensor = self.project(functional.gelu(self.expand(torch.stack(features, dim=-1))))
        return bias.permute(0, 3, 1, 2)


def pooled(estimates: Sequence[Estimate]) -> Estimate:
    """Mean and standard deviation of the equally weighted mixture of several estimates."""
    if len(estimates) == 1:
        return estimates[0]
    means, deviations = (torch.stack(each) for each in zip(*estimates, strict=True))
    mean = means.mean(dim=0)
    return Estimate(mean, (deviations.square() + (means - mean).square()).mean(dim=0).sqrt())


def nearest_observed_mask(observed: Tensor, nearest: int) -> Tensor:
    """The attention mask [B, P, T, T] for `observed` [B, P, T] bool: each date attends to itself and to the `nearest`
    observed dates before and after it."""
    rank = observed.cumsum(dim=-1)
    ahead = rank[..., None, :] - rank[..., :, None]  # for an observed key: observations from this date to it
    own = observed[..., :, None].long()
    after = (ahead >= 1) & (ahead <= nearest)
    before = (ahead <= -own) & (ahead > -own - nearest)
    itself = torch.eye(observed.shape[-1], dtype=torch.bool, device=observed.device)
    return (observed[..., None, :] & (after | before)) | itself


def evidence_of(conditioning: Conditioning) -> Evidence:
    """The evidence from the series in a conditioning; see `gather_evidence`.

    Raises:
        ValueError: the conditioning lacks `observed`, `gap_mask` or `optical_dates`.
    """
    observed, gaps = conditioning.observed, conditioning.gap_mask
    if observed is None or gaps is None or conditioning.optical_dates is None:
        raise ValueError("the pixel denoiser needs conditioning.observed, gap_mask and optical_dates")
    seen = ~gaps
    if conditioning.frame_mask is not None:
        seen = seen & conditioning.frame_mask[:, :, None, None, None]
    if conditioning.band_mask is not None:
        observed = observed * conditioning.band_mask[:, None, :, None, None]
    radar = None
    if conditioning.radar is not None:
        assert conditioning.radar_dates is not None
        everything = torch.ones_like(conditioning.radar_dates, dtype=torch.bool)
        radar = RadarSeries(
            conditioning.radar,
            conditioning.radar_dates,
            torch.zeros_like(everything) if conditioning.radar_track is None else conditioning.radar_track,
            everything if conditioning.radar_mask is None else conditioning.radar_mask,
        )
    return gather_evidence(observed, seen, conditioning.optical_dates, radar)


def _departure_given_noisy(noisy: Tensor, kriged: Tensor, levels: Tensor | None) -> Tensor:
    """Least-squares estimate of the departure of the clean series from the kriged one, given a noisy state; 0 where the
    state is pure noise. With x_t = signal·x_0 + noise·ε and x_0 = kriged + r, r of variance s², it is
    signal·s²·(x_t − signal·kriged) / (signal²·s² + noise²)."""
    if levels is None:
        return torch.zeros_like(kriged)
    signal, noise = levels[:, :, None, None, None, None].to(kriged.dtype).unbind(dim=1)
    variance = RESIDUAL_SCALE**2
    return signal * variance * (noisy - signal * kriged) / (signal.square() * variance + noise.square())

"""The denoiser of RESTORE-DiT: predicts the clean series from a noisy optical series and its conditioning."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from restore_dit.config import ModelConfig
from restore_dit.model.blocks import AdaptiveNorm, Block, RadarTokens
from restore_dit.model.conditioning import Conditioning, FixedTables, StepEmbedding, date_code
from restore_dit.model.interpolation import interpolate_from_other_dates
from restore_dit.model.pixel_denoiser import PixelDenoiser


def build_denoiser(config: ModelConfig, *, activation_checkpointing: bool = False) -> AnyDenoiser:
    """The untrained network that a configuration describes."""
    if config.network == "pixels":
        return PixelDenoiser(config)
    return Denoiser(config, activation_checkpointing=activation_checkpointing)


class Denoiser(nn.Module):
    """The diffusion transformer of Shu et al. 2025 (Remote Sensing of Environment 328, 114872).

    With `use_dates`, `radar_attention="paired"`, no gap channel and no anchor, it is the published network. It accepts
    any T, and any H and W that are multiples of the patch size. Parts whose conditioning is absent are skipped.
    """

    def __init__(self, config: ModelConfig, *, activation_checkpointing: bool = False) -> None:
        super().__init__()
        self.config = config
        self.activation_checkpointing = activation_checkpointing
        size, bands = config.hidden_size, len(config.bands)
        inputs = bands * (3 if config.anchor == "linear" else 1) + config.gap_channel
        self.optical_embedding = PatchEmbedding(inputs, config.patch_size, size)
        self.radar_embedding = None
        if config.radar_channels:
            self.radar_embedding = PatchEmbedding(len(config.radar_channels), config.patch_size, size)
        self.step_embedding = StepEmbedding(size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head_modulation = nn.Linear(size, 2 * size)
        self.head_norm = AdaptiveNorm(size, affine=False)
        self.head = nn.Linear(size, config.patch_size**2 * bands)
        self.tables = FixedTables(size)
        self.initialise()

    def initialise(self) -> None:
        """Initialises the weights as published: the untrained network returns 0, or its anchor."""
        for name, module in self.named_modules():
            if not isinstance(module, nn.Linear) or name == "radar_embedding.projection":
                continue  # the radar's patch embedding keeps PyTorch's default initialisation, as published
            nn.init.zeros_(module.bias)
            if name.endswith("modulation") or name == "head":
                nn.init.zeros_(module.weight)
            elif name.startswith("step_embedding"):
                nn.init.normal_(module.weight, std=0.02)
            elif name.endswith("key_value") and not name.endswith("query_key_value"):
                for matrix in module.weight.chunk(2):  # separate matrices in the published network
                    nn.init.xavier_uniform_(matrix)
            else:
                nn.init.xavier_uniform_(module.weight)

    def forward(self, noisy: Tensor, step: Tensor, conditioning: Conditioning) -> Tensor:
        """Predicts what the model was trained for (by default, the clean series), in the shape of `noisy`.

        noisy: [B, T, C, H, W] in [-1, 1] plus noise, with observed pixels clean. step: [B] of the noise schedule.

        Raises:
            ValueError: H or W is not a multiple of the patch size.
        """
        height, width = noisy.shape[-2:]
        side = self.config.patch_size
        if height % side or width % side:
            raise ValueError(f"images of {height}×{width} pixels cannot be divided into patches of {side}×{side}")
        if len(noisy) > 1 and noisy.device.type == "cpu" and not torch.is_grad_enabled():
            # One by one: no slower on a CPU, bounds memory, and makes results independent of the batch.
            each = [slice(index, index + 1) for index in range(len(noisy))]
            return torch.cat([self.forward(noisy[one], step[one], conditioning.examples(one)) for one in each])
        positions = self.tables.positions(height // side, width // side, noisy.device)

        anchor = self._anchor(conditioning) if self.config.anchor == "linear" else None
        tokens = self.optical_embedding(self._input_channels(noisy, anchor, conditioning))
        optical_code = self._frame_code(noisy.shape[1], conditioning.optical_dates, noisy.device)
        tokens = (tokens + positions + optical_code).to(tokens.dtype)
        radar = self._radar_tokens(conditioning, positions, optical_code)

        with torch.autocast(noisy.device.type, enabled=False):  # few values, but they scale every token
            step_code = functional.silu(self.step_embedding(step))
            modulations = [block.modulation(step_code) for block in self.blocks]  # type: ignore[operator]
            shift, scale = self.head_modulation(step_code).chunk(2, dim=-1)
        for block, modulation in zip(self.blocks, modulations, strict=True):
            arguments = (tokens, modulation, radar, conditioning.frame_mask)
            if self.activation_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, *arguments, use_reentrant=False)
            else:
                tokens = block(*arguments)
        patches = self.head(self.head_norm(tokens, shift, scale))
        output = unpatch(patches, height // side, width // side, side, len(self.config.bands)).to(noisy.dtype)
        if conditioning.prior_weights is None:
            return output if anchor is None else output + anchor
        weights = conditioning.prior_weights[:, 0 if anchor is not None else 1].to(noisy.dtype)
        noisy_weight, anchor_weight, output_weight = weights[..., None, None, None, None].unbind(dim=1)
        combined = output_weight * output + noisy_weight * noisy
        return combined if anchor is None else combined + anchor_weight * anchor

    def _anchor(self, conditioning: Conditioning) -> Tensor | None:
        """The interpolation of every pixel from its other dates [B, T, C, H, W], without padding frames; None if the
        conditioning has no `observed`."""
        if conditioning.anchor is not None:
            return conditioning.anchor
        if conditioning.observed is None:
            return conditioning.anchor
        series = conditioning.observed
        batch, frames, _, height, width = series.shape
        if conditioning.gap_mask is None:
            known = torch.ones(batch, frames, 1, height, width, dtype=torch.bool, device=series.device)
        else:
            known = ~conditioning.gap_mask
        if conditioning.frame_mask is not None:
            known = known & conditioning.frame_mask[:, :, None, None, None]
        dates = conditioning.optical_dates
        if dates is None:
            dates = torch.arange(frames, device=series.device).expand(batch, frames)
        return interpolate_from_other_dates(series, known, dates)

    def _input_channels(self, noisy: Tensor, anchor: Tensor | None, conditioning: Conditioning) -> Tensor:
        """The input channels: the noisy series and, if the model is configured with them, the anchor, the departure of
        the observations from the anchor, and the gap mask. The departure shows how this date differs from its
        neighbours, which also says something about the gaps next to them."""
        channels = [noisy]
        if self.config.anchor == "linear":
            departure = torch.zeros_like(noisy)
            if anchor is not None and conditioning.observed is not None:
                departure = conditioning.observed - anchor
                if conditioning.gap_mask is not None:
                    departure = torch.where(conditioning.gap_mask, 0, departure)
            channels += [torch.zeros_like(noisy) if anchor is None else anchor, departure]
        if self.config.gap_channel:
            gaps = conditioning.gap_mask
            channels.append(torch.zeros_like(noisy[:, :, :1]) if gaps is None else gaps.to(noisy.dtype))
        return torch.cat(channels, dim=2) if len(channels) > 1 else noisy

    def _frame_code(self, frames: int, dates: Tensor | None, device: torch.device) -> Tensor:
        """Codes of the frames [B or 1, T, 1, D], by date or, without dates, by index."""
        if self.config.use_dates and dates is not None:
            return date_code(dates, self.config.hidden_size)[:, :, None]
        return self.tables.frames(frames, device)[None, :, None]

    def _radar_tokens(self, conditioning: Conditioning, positions: Tensor, optical_code: Tensor) -> RadarTokens | None:
        if self.radar_embedding is None or conditioning.radar is None:
            return None
        mask = conditioning.radar_mask
        if self.config.radar_attention == "own_dates":
            code = self._frame_code(conditioning.radar.shape[1], conditioning.radar_dates, positions.device)
        else:  # each radar frame is paired with an optical frame
            code = optical_code
            if conditioning.frame_mask is not None:
                mask = conditioning.frame_mask if mask is None else mask & conditioning.frame_mask
        tokens = self.radar_embedding(conditioning.radar)
        return RadarTokens((tokens + positions + code).to(tokens.dtype), mask)


AnyDenoiser = Denoiser | PixelDenoiser
"""Any of the networks that can be trained and sampled."""


class PatchEmbedding(nn.Module):
    """Maps p×p pixels of all channels to one token. This is a convolution of stride p, computed as one matrix product
    on rearranged pixels, so that tokens are in row-major order without a transposed copy."""

    def __init__(self, channels: int, patch_size: int, hidden_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Linear(channels * patch_size**2, hidden_size)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images [B, T, C, H, W] to tokens [B, T, N, D]."""
        batch, frames, channels, height, width = images.shape
        side = self.patch_size
        grid = images.view(batch, frames, channels, height // side, side, width // side, side)
        patches = grid.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, frames, -1, channels * side**2)
        tokens: Tensor = self.projection(patches.to(self.projection.weight.dtype))
        return tokens


def unpatch(patches: Tensor, rows: int, columns: int, patch_size: int, bands: int) -> Tensor:
    """Rearranges patches [B, T, N, p·p·C], ordered (row in patch, column in patch, band), to images [B, T, C, H, W]."""
    batch, frames = patches.shape[:2]
    grid = patches.view(batch, frames, rows, columns, patch_size, patch_size, bands)
    return grid.permute(0, 1, 6, 2, 4, 3, 5).reshape(batch, frames, bands, rows * patch_size, columns * patch_size)

"""Patch embedding, and sine-cosine codes of position, date and diffusion step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

STEP_FEATURES = 256
"""Width of the sine-cosine code of the diffusion step."""


def axis_table(length: int, features: int) -> Tensor:
    """Code of the indices 0 … length−1 as [length, features] float64: sines of k·ω, then cosines, with
    ω_i = 10000^(−i / (features/2))."""
    frequency = 10000.0 ** (-torch.arange(features // 2, dtype=torch.float64) / (features / 2))
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def position_table(rows: int, columns: int, features: int) -> Tensor:
    """Code of the positions of a grid as [rows·columns, features] float64, row by row: the first half of the features
    encodes the column, the second half the row."""
    column_code = axis_table(columns, features // 2).expand(rows, columns, -1)
    row_code = axis_table(rows, features // 2)[:, None].expand(rows, columns, -1)
    return torch.cat([column_code, row_code], dim=-1).reshape(rows * columns, features)


def date_code(dates: Tensor, features: int) -> Tensor:
    """Code of dates [B, T] in days as [B, T, features] float32: sine of date / 10000^(2⌊k/2⌋/features) at even k,
    cosine at odd k."""
    exponent = torch.arange(0, features, 2, device=dates.device, dtype=torch.float32) / features
    angle = dates.float()[..., None] / 10000.0**exponent
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


class FixedTables:
    """Cached position and frame-index codes for the shapes seen so far. They depend only on the shape and are therefore
    not in checkpoints."""

    def __init__(self, features: int) -> None:
        self.features = features
        self._tables: dict[tuple[str, int, int, torch.device], Tensor] = {}

    def positions(self, rows: int, columns: int, device: torch.device) -> Tensor:
        """Position codes of a grid, [rows·columns, D] float32."""
        return self._table("positions", rows, columns, device)

    def frames(self, count: int, device: torch.device) -> Tensor:
        """Frame-index codes, [count, D] float32."""
        return self._table("frames", count, 1, device)

    def _table(self, kind: str, first: int, second: int, device: torch.device) -> Tensor:
        key = (kind, first, second, device)
        if key not in self._tables:
            # Otherwise a table made while sampling would be an inference tensor, which training cannot use.
            with torch.inference_mode(False):
                if kind == "positions":
                    table = position_table(first, second, self.features)
                else:
                    table = axis_table(first, self.features)
                self._tables[key] = table.float().to(device)
        return self._tables[key]


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


class StepEmbedding(nn.Module):
    """Embedding of the diffusion step: [B] to [B, D]."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.expand = nn.Linear(STEP_FEATURES, hidden_size)
        self.project = nn.Linear(hidden_size, hidden_size)

    def forward(self, step: Tensor) -> Tensor:
        half = STEP_FEATURES // 2
        exponent = torch.arange(half, device=step.device, dtype=torch.float32) / half
        angle = step.float()[:, None] * torch.exp(-math.log(10000.0) * exponent)
        features = torch.cat([angle.cos(), angle.sin()], dim=-1)
        code: Tensor = self.project(functional.silu(self.expand(features.to(self.expand.weight.dtype))))
        return code

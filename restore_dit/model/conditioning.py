"""The conditioning of the denoiser, which is its inputs besides the noisy series, and the sine-cosine codes by which it
sees positions, dates and the diffusion step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from restore_dit.model.evidence import Evidence


@dataclass(frozen=True)
class Conditioning:
    """Conditioning of B series with T optical frames and S radar acquisitions. Every field is optional (None).

    optical_dates: [B, T] days since 2018-09-01.
    frame_mask: [B, T] bool, true where a frame is real and not padding.
    observed: [B, T, C, H, W] optical values in [-1, 1]; values under a gap are never read.
    gap_mask: [B, T, 1, H, W] bool, true where a pixel is missing.
    anchor: [B, T, C, H, W] the series interpolated from other dates, given by a caller that knows more dates than this
        window contains; if absent, a model with an anchor computes it from `observed`.
    prior_weights: [B, 2, 3] factors of the noisy series, the anchor and the output before these are added: the first
        row with an anchor, the second without. 0, 1 and 1 if absent.
    levels: [B, 2] amounts of signal and noise in the noisy series; pure noise if absent.
    band_mask: [B, C] bool, true where a series has a band; all if absent.
    pixels: [B, P] int64, row-major indices of the pixels to predict; all if absent.
    evidence: the evidence from the observed series, if the caller has computed it already.
    radar: [B, S, K, H, W] normalised backscatter.
    radar_dates: [B, S] days since 2018-09-01.
    radar_mask: [B, S] bool, true where an acquisition is real.
    radar_track: [B, S] int64, 0 for the ascending track, 1 for the descending; ascending if absent.
    """

    optical_dates: Tensor | None = None
    frame_mask: Tensor | None = None
    observed: Tensor | None = None
    gap_mask: Tensor | None = None
    anchor: Tensor | None = None
    prior_weights: Tensor | None = None
    levels: Tensor | None = None
    band_mask: Tensor | None = None
    pixels: Tensor | None = None
    evidence: Evidence | None = None
    radar: Tensor | None = None
    radar_dates: Tensor | None = None
    radar_mask: Tensor | None = None
    radar_track: Tensor | None = None

    def examples(self, chosen: slice) -> Conditioning:
        """The conditioning of some of the B series."""
        return self._each(lambda field: field[chosen])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        changed: dict[str, Any] = {}
        for name, value in ((f.name, getattr(self, f.name)) for f in fields(self)):
            if value is not None:
                changed[name] = value.map(change) if isinstance(value, Evidence) else change(value)
        return replace(self, **changed)


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

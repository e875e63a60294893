"""The conditioning of the denoiser: its inputs besides the noisy series and the diffusion step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

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

"""Converts stacked examples to a batch on the network's scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore_dit.data.examples.gaps import CLOUD_REFLECTANCE, STRONGEST
from restore_dit.data.examples.normalisation import OPTICAL_CEILING, Normalisation, optical_to_network
from restore_dit.model.conditioning import Conditioning
from restore_dit.series import NO_DATA, REFLECTANCE_SCALE, S1_BANDS


@dataclass(frozen=True)
class Batch:
    """Input of the objective and the denoiser on the network's scale, for B examples of T frames.

    - `target`: [B, T, C, H, W], in [-1, 1] up to a reflectance of 0.8.
    - `valid`: [B, T, 1, H, W] bool, pixels whose value is known.
    - `quantile`: [B], determines the diffusion step.
    - `noise_seed`: [B] int64, on the CPU, where random generators take their seeds from.
    - `weight`: [B].
    - `examples`: (tile id, draw) of each example.
    - `veiled`: [B, T, 1, H, W] bool, pixels that are shown as observed but differ from the target (None: nowhere).
    - `drawn_frames`: T before padding was removed.
    """

    target: Tensor
    conditioning: Conditioning
    valid: Tensor
    quantile: Tensor
    noise_seed: Tensor
    weight: Tensor
    examples: tuple[tuple[str, int], ...]
    veiled: Tensor | None = None
    drawn_frames: int = 0

    def noise(self) -> Tensor:
        """Standard normal noise like `target`; each example's noise depends only on its own seed, not on the batch."""
        count, frames, *rest = self.target.shape
        drawn = self.target.new_empty(count, max(frames, self.drawn_frames), *rest)
        for index, seed in enumerate(self.noise_seed.tolist()):
            drawn[index].normal_(generator=torch.Generator(drawn.device).manual_seed(seed))
        return drawn[:, :frames]


def to_batch(
    columns: Mapping[str, Any],
    normalisation: Normalisation,
    *,
    mask_padding: bool = True,
    keep_padding: bool = True,
    device: torch.device | str = "cpu",
) -> Batch:
    """Stacked examples (`stack`) on the network's scale and on a device. Integers are transferred and converted to
    floats there. Unless `keep_padding` is set, the batch is trimmed to its longest example. `pinned` examples are
    transferred while the device computes."""
    if not keep_padding:
        columns = without_padding(columns)
    tensors = {
        name: _tensor(values).to(device, non_blocking=True) for name, values in columns.items() if name in _ON_DEVICE
    }
    # On the device, since the integers are half the size of the floats that they become.
    target = optical_to_network(tensors["optical"], normalisation.optical_ceiling)
    radar: Tensor | None = None
    if normalisation.radar_channels and "radar" in tensors:
        stored = tensors["radar"]
        radar = normalisation.radar(stored, S1_BANDS, (stored == int(NO_DATA)).any(dim=-3, keepdim=True))
    veil = tensors.get("veil")
    conditioning = Conditioning(
        optical_dates=tensors["optical_dates"],
        frame_mask=tensors["frame_mask"] if mask_padding else None,
        observed=target if veil is None else _seen_through(veil, target),
        gap_mask=tensors["gap_mask"],
        band_mask=tensors["bands"],
        radar=radar,
        radar_dates=tensors["radar_dates"] if radar is not None else None,
        radar_mask=tensors["radar_mask"] if radar is not None and mask_padding else None,
        radar_track=tensors["radar_track"] if radar is not None else None,
    )
    count = len(target)
    return Batch(
        target=target,
        conditioning=conditioning,
        valid=tensors["valid"],
        quantile=tensors.get("quantile", torch.zeros(count)),
        noise_seed=_tensor(columns.get("noise_seed", np.zeros(count, np.int64))),
        weight=tensors.get("weight", torch.ones(count)),
        examples=tuple(zip(map(str, columns["tile_id"]), map(int, columns["draw"]), strict=True))
        if "tile_id" in columns
        else (),
        veiled=None if veil is None else veil != 0,
        drawn_frames=columns.get("drawn_frames", columns["frame_mask"].shape[1]),
    )


def pinned(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Stacked examples in page-locked memory, from which a GPU copies while it and the CPU do something else."""
    return {name: _tensor(values).pin_memory() if name in _ON_DEVICE else values for name, values in columns.items()}


def without_padding(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Stacked examples without the frames and radar acquisitions that are padding in all of them, but for one
    acquisition; `drawn_frames` is the number of frames before."""
    if "drawn_frames" in columns:
        return dict(columns)
    frames = int(columns["frame_mask"].sum(axis=1).max())
    shorter = {name: columns[name][:, :frames] for name in _PER_FRAME if name in columns}
    if "radar" in columns:
        acquisitions = max(1, int(columns["radar_mask"].sum(axis=1).max()))
        shorter |= {name: columns[name][:, :acquisitions] for name in _PER_ACQUISITION}
    return {**columns, **shorter, "drawn_frames": columns["frame_mask"].shape[1]}


_PER_FRAME = ("optical", "valid", "gap_mask", "frame_mask", "optical_dates", "veil")
_PER_ACQUISITION = ("radar", "radar_dates", "radar_mask", "radar_track")
_ON_DEVICE = (*_PER_FRAME, *_PER_ACQUISITION, "bands", "quantile", "weight")


def _tensor(values: NDArray[Any] | Tensor) -> Tensor:
    return values if isinstance(values, Tensor) else torch.from_numpy(np.require(values, requirements=("C", "W")))


def _seen_through(veil: Tensor, ground: Tensor) -> Tensor:
    """Ground [..., C, H, W] on the network's scale as seen through a veil [..., 1, H, W] of `missed_pieces`."""
    cloud = 2 * CLOUD_REFLECTANCE * REFLECTANCE_SCALE / OPTICAL_CEILING - 1
    veiled = veil.squeeze(-3) != 0
    share = veil.squeeze(-3)[veiled][:, None] / STRONGEST
    seen = ground.clone()
    pixels = seen.movedim(-3, -1)  # a view [..., H, W, C]
    clear = pixels[veiled]
    darkened = (clear + 1) * (1 + share) - 1  # -1 is black
    pixels[veiled] = torch.where(share < 0, darkened, clear + share * (cloud - clear))
    return seen

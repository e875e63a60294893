"""Detects clouds in whole tiles. A batch may contain frames of several tiles."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from restore_dit.clouds.network.inputs import (
    crop,
    known_bands,
    network_input,
    network_size,
    pad,
    padded_size,
    reference_of,
    resample,
    resample_logits,
    without_data,
)
from restore_dit.config.clouds import CloudNetworkConfig
from restore_dit.data.store.masks import MaskOrigin
from restore_dit.errors import UserError
from restore_dit.series import CLEAR, CLOUD_NO_DATA, Georeference, TileSeries

_USUAL_PIXELS = 128 * 128
"""Number of pixels per frame to which the batch size refers; a batch has fewer frames if they are larger."""

_BATCHES_AHEAD = 4
"""If this many batches of frames of later tiles wait for an earlier one, its batch runs without being full."""


@dataclass
class _Tile:
    """A tile in progress: the first `done` frames of its masks [T, H, W] are finished. `grid`: (H, W) on the network's
    grid."""

    series: TileSeries
    reference: NDArray[np.float32] | None
    grid: tuple[int, int]
    masks: NDArray[np.uint8]
    done: int = 0

    @property
    def remaining(self) -> int:
        return len(self.masks) - self.done


class NetworkDetector:
    """A detector with a cloud-detection network, for tiles of any size.

    For tiles of the same size, batches always have the same shape (they are padded with empty frames), and frames of a
    batch do not influence one another. A mask therefore depends neither on other tiles nor on where a run started.
    Another batch size, device or number of threads changes the rounding, which only matters where two classes are
    equally likely (batches of 1, 7 and 32 frames of a trained network: in none of three million pixels).
    """

    def __init__(
        self,
        network: nn.Module,
        config: CloudNetworkConfig,
        by: str,
        *,
        device: str | torch.device = "cpu",
        precision: Literal["fp32", "bf16"] = "fp32",
        batch_size: int = 32,
        clear_bias: float = 0.0,
    ) -> None:
        """
        Args:
            network: it is switched to evaluation mode here, and moved to the device with the first tile, so that a
                detector can be created without a GPU.
            config: bands, reference, pixel size and padding of the network.
            by: identifies the weights in the origin of masks.
            device: where the network runs.
            precision: arithmetic precision of the network.
            batch_size: number of frames of 128×128 pixels in a batch.
            clear_bias: added to the logit of the class clear.
        """
        self.network = network.eval()
        self.config = config
        self.by = by
        self.device = torch.device(device)
        self.precision = precision
        self.batch_size = batch_size
        self.clear_bias = clear_bias

    @property
    def origin(self) -> MaskOrigin:
        """Identifies the network's weights and settings."""
        return MaskOrigin(method="network", by=self.by)

    def require(self, bands: tuple[str, ...], size: tuple[int, int], georeference: Georeference | None) -> None:
        """Raises `UserError` if a tile lacks bands of the network, or its pixel size differs too much."""
        known_bands(bands, self.config)
        network_size(size, georeference, self.config)

    def detect(self, tiles: Iterable[TileSeries]) -> Iterator[NDArray[np.uint8]]:
        """The masks uint8 [T, H, W] of each tile, in order: 0 clear, 1 thick cloud, 2 thin cloud, 3 shadow, 255 where a
        band that the network reads has no data. Tiles are consumed lazily.

        Raises:
            UserError: a tile lacks bands of the network or its pixel size differs too much, or there is no GPU.
        """
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise UserError("use_gpu=true, but this process sees no GPU; set use_gpu=false")
        self.network.to(self.device).to(memory_format=torch.channels_last)
        in_flight: deque[_Tile] = deque()
        waiting: dict[tuple[int, int], deque[_Tile]] = {}  # tiles with unfinished frames, by padded size
        for series in tiles:
            tile = self._admit(series)
            in_flight.append(tile)
            size = padded_size(tile.grid, self.config)
            alike = waiting.setdefault(size, deque())
            if tile.remaining:
                alike.append(tile)
            while sum(other.remaining for other in alike) >= self._frames_at_once(size):
                self._run(alike)
            yield from self._finished(in_flight, waiting, ahead=_BATCHES_AHEAD * self.batch_size)
        yield from self._finished(in_flight, waiting, ahead=-1)

    def _finished(
        self, in_flight: deque[_Tile], waiting: dict[tuple[int, int], deque[_Tile]], ahead: int
    ) -> Iterator[NDArray[np.uint8]]:
        """Yields masks in the order of the tiles, up to the first unfinished tile. If more than `ahead` frames of later
        tiles wait behind that tile, its batch runs even if it is not full."""
        while in_flight:
            oldest = in_flight[0]
            if not oldest.remaining:
                yield in_flight.popleft().masks
            elif sum(len(tile.masks) for tile in in_flight) - len(oldest.masks) > ahead:
                self._run(waiting[padded_size(oldest.grid, self.config)])
            else:
                return

    def _admit(self, series: TileSeries) -> _Tile:
        try:
            grid = network_size(series.size, series.georeference, self.config)
            unknown = without_data(series.optical.values, series.optical.bands, self.config)
        except UserError as error:
            raise UserError(f"tile {series.tile_id}: {error}", status=error.status) from None
        masks = np.where(unknown, np.uint8(CLOUD_NO_DATA), np.uint8(0))
        reference = reference_of(series) if self.config.reference else None
        return _Tile(series, reference, grid, masks)

    def _frames_at_once(self, size: tuple[int, int]) -> int:
        large = max(1, size[0] * size[1] / _USUAL_PIXELS)
        return max(1, int(self.batch_size / large))

    @torch.inference_mode()
    def _run(self, waiting: deque[_Tile]) -> None:
        """Runs one batch of waiting frames, all of the same padded size, in order."""
        full = room = self._frames_at_once(padded_size(waiting[0].grid, self.config))
        parts: list[tuple[_Tile, slice]] = []
        while waiting and room:
            tile = waiting[0]
            span = slice(tile.done, min(tile.done + room, len(tile.masks)))
            parts.append((tile, span))
            room -= span.stop - span.start
            tile.done = span.stop
            if not tile.remaining:
                waiting.popleft()
        frames = torch.cat([self._input(tile, span) for tile, span in parts])
        if room:
            frames = torch.cat([frames, frames.new_zeros(room, *frames.shape[1:])])
        logits = self._logits(frames)[: full - room].split([span.stop - span.start for _, span in parts])
        for (tile, span), part in zip(parts, logits, strict=True):
            on_tile = resample_logits(crop(part, tile.grid).float(), tile.series.size)
            on_tile[:, CLEAR] += self.clear_bias
            classes = on_tile.argmax(dim=1).to(torch.uint8).cpu().numpy()
            np.copyto(tile.masks[span], classes, where=tile.masks[span] != CLOUD_NO_DATA)

    def _input(self, tile: _Tile, span: slice) -> Tensor:
        optical = tile.series.optical
        reference = None if tile.reference is None else tile.reference[span]
        read = network_input(optical.values[span], optical.bands, self.config, reference)
        return pad(resample(read, tile.grid), self.config)

    def _logits(self, frames: Tensor) -> Tensor:
        """Logits [N, 4, H, W] on the device."""
        if self.device.type == "cuda":
            frames = frames.pin_memory()
        frames = frames.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        with (
            # full fp32: by default, a GPU uses TF32 for convolutions, which rounds inputs to a 10-bit mantissa
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"),
        ):
            return self.network(frames)

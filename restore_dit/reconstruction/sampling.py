"""Windows of series as the network takes them, and the network over several of them at once, of one series or many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from restore_dit.config import GapConfig, SamplerName
from restore_dit.data.examples.batch import to_batch
from restore_dit.data.examples.cutting import Cutter, Example, Window, stack
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.diffusion.noise import field_noise
from restore_dit.diffusion.prediction import Prediction
from restore_dit.diffusion.samplers import sample_inpainting, sampling_times, to_unit_range
from restore_dit.errors import UserError
from restore_dit.model.conditioning import Conditioning
from restore_dit.model.interpolation import interpolate_from_other_dates
from restore_dit.model.pixel_denoiser import PixelDenoiser, evidence_of
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.tiling import SpatialTile, pad_to_multiple

_EVERY_ACQUISITION = 100_000

Sample = Callable[[Iterable["PreparedWindow"]], Iterator[NDArray[np.float32]]]
"""Takes windows as they come and yields the prediction of each, in their order: [t, C, h, w] on the published scale."""


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample. `steps`, `sampler` and `mask_dilation` (pixels by which clouds and shadows are widened) None: as
    the model's configuration says; `batch_size`: windows at once; `calibrate`: whether clear dates of a series are
    hidden first, to see how well it can be filled (networks that say how sure they are, in one step)."""

    steps: int | None = None
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    batch_size: int = 4
    mask_dilation: int | None = None
    sampler: SamplerName | None = None
    calibrate: bool = True

    def solver(self, model: Model) -> tuple[SamplerName, int]:
        """Sampler and steps for a model.

        Raises:
            UserError: this sampler cannot follow the model's noise schedule.
        """
        diffusion = model.config.diffusion
        sampler = self.sampler or diffusion.sampler
        try:
            diffusion.require_sampler(sampler)
        except ValueError as error:
            raise UserError(f"sampling.sampler={sampler}: {error}; leave it out to take the model's own") from None
        return sampler, self.steps or diffusion.sampling_steps

    def tries(self, model: Model) -> bool:
        """Whether the model is tried on a series before it fills it. Not where several steps make samples of it, which
        are no means."""
        return self.calibrate and model.config.model.says_how_sure and self.solver(model)[1] == 1


@dataclass(frozen=True)
class PreparedWindow:
    """A window of one spatial tile, all that its prediction depends on.

    columns: the example, padded to T frames and to sides that the patch size divides.
    noise: float32 [t, C, H, W], t real frames; anchor: the same of what the other dates of the whole series say, on the
    network's scale, None for a model without an anchor.
    size: (h, w) of the spatial tile.
    """

    columns: Example
    noise: NDArray[np.float32]
    anchor: NDArray[np.float32] | None
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """What windows have in common that can be sampled together."""
        return tuple(self.columns[name].shape for name in sorted(self.columns))


class WindowMaker:
    """Prepares windows of one spatial tile of a series.

    Args:
        tile: the series below the spatial tile.
        frames: [n] indices of its frames that are reconstructed.
        place: where the tile lies; noise depends on it.
        gaps: [n, h, w] what is hidden of the tile.
        device: where the anchor is computed.
    """

    def __init__(
        self,
        model: Model,
        tile: DecodedTile,
        place: SpatialTile,
        frames: NDArray[np.intp],
        gaps: NDArray[np.bool_],
        seed: int,
        device: torch.device,
    ) -> None:
        self._model, self._tile, self._place = model, tile, place
        self._frames, self._gaps, self._seed = frames, gaps, seed
        # What is hidden is decided already, with the clouds beyond this spatial tile.
        network, data = model.config.model, model.config.data.model_copy(update={"gaps": GapConfig()})
        if network.network == "pixels" and data.radar is not None:  # that of training is for its memory's sake
            data = data.model_copy(update={"radar": data.radar.model_copy(update={"frames": _EVERY_ACQUISITION})})
        self._cutter = Cutter(data, network.bands, network.any_bands)
        self._patch = network.patch_size if network.network == "patches" else 1
        self._anchor = None
        if network.network == "patches" and network.anchor == "linear":
            self._anchor = self._from_other_dates(device)

    def __call__(self, start: int, stop: int) -> PreparedWindow:
        """The window of the frames [start, stop)."""
        return PreparedWindow(
            columns=self._example(start, stop, padded=self._model.config.model.network == "patches"),
            noise=self._noise(start, stop),
            anchor=None if self._anchor is None else self._anchor[start:stop],
            size=(self._place.height, self._place.width),
        )

    def _example(self, start: int, stop: int, *, padded: bool) -> Example:
        size = (self._place.height, self._place.width)
        window = Window(self._frames[start:stop], self._gaps[start:stop], (0, 0), size)
        example = self._cutter.cut(self._tile, window, padded=padded)
        # An area smaller than the network's tile may have a side that the patch size does not divide.
        images = [name for name in ("optical", "valid", "gap_mask", "radar") if name in example]
        return example | {name: pad_to_multiple(example[name], self._patch) for name in images}

    def _from_other_dates(self, device: torch.device) -> NDArray[np.float32]:
        """[n, C, H, W]; a window sees only its own dates."""
        whole = self._example(0, len(self._frames), padded=False)
        batch = to_batch(stack([whole]), self._model.normalisation, device=device)
        gaps, dates = batch.conditioning.gap_mask, batch.conditioning.optical_dates
        assert gaps is not None
        assert dates is not None
        return interpolate_from_other_dates(batch.target, ~gaps, dates)[0].cpu().numpy()

    def _noise(self, start: int, stop: int) -> NDArray[np.float32]:
        days = self._tile.optical.dates[self._frames[start:stop]].astype("datetime64[D]").astype(np.int64)
        place, patch = self._place, self._patch
        rows = np.arange(place.row, place.row + place.height + -place.height % patch)
        columns = np.arange(place.column, place.column + place.width + -place.width % patch)
        return field_noise(self._seed, days, rows, columns, len(self._model.config.model.bands))


def sampled_here(model: Model, options: SamplingOptions) -> Sample:
    """Samples in this process, `batch_size` windows at once, while the next are prepared."""

    def sample(windows: Iterable[PreparedWindow]) -> Iterator[NDArray[np.float32]]:
        groups = _groups(windows, options.batch_size)
        with ThreadPoolExecutor(max_workers=1) as thread:
            waiting = thread.submit(next, groups, None)
            while (group := waiting.result()) is not None:
                waiting = thread.submit(next, groups, None)
                yield from sample_windows(model, group, options)

    return sample


def _groups(windows: Iterable[PreparedWindow], most: int) -> Iterator[list[PreparedWindow]]:
    """Neighbouring windows of one shape, `most` at once."""
    for _, alike in groupby(windows, lambda window: window.shape):
        while group := list(islice(alike, most)):
            yield group


@torch.no_grad()
def sample_windows(
    model: Model, windows: Sequence[PreparedWindow], options: SamplingOptions
) -> list[NDArray[np.float32]]:
    """The prediction of each window [t, C, h, w] on the published scale; windows of one `shape`, of any series. The
    options' seed is in the windows' noise already. Of a network that says how sure it is, [t, 2·C, h, w]: the values,
    then their standard deviations."""
    device = next(model.denoiser.parameters()).device
    sampler, steps = options.solver(model)
    columns = stack([window.columns for window in windows])
    batch = to_batch(columns, model.normalisation, mask_padding=model.config.data.mask_padding, device=device)
    conditioning = batch.conditioning
    anchors = [window.anchor for window in windows if window.anchor is not None]
    if anchors:
        conditioning = replace(conditioning, anchor=_stacked(anchors, batch.target))
    noise = _stacked([window.noise for window in windows], batch.target)
    predicted = Prediction.from_config(model.config.diffusion)
    with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16"):
        if isinstance(model.denoiser, PixelDenoiser):
            filled, deviation = _with_deviation(model.denoiser, noise, conditioning, predicted, steps, sampler)
            parts = [to_unit_range(filled.float()), deviation.float() / 2]
        else:
            filled = sample_inpainting(model.denoiser, noise, conditioning, predicted, steps, sampler=sampler)
            parts = [to_unit_range(filled.float())]
    values = torch.cat(parts, dim=2).cpu().numpy()
    return [
        prediction[: len(window.noise), :, : window.size[0], : window.size[1]]
        for prediction, window in zip(values, windows, strict=True)
    ]


def _with_deviation(
    denoiser: PixelDenoiser,
    noise: torch.Tensor,
    conditioning: Conditioning,
    predicted: Prediction,
    steps: int,
    sampler: SamplerName,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What sampling fills in, and the standard deviation of the network's first answer, which is all that one step
    asks for; both like `noise`, on the network's scale."""
    if len(noise) > 1:  # one by one: what is known of a long series takes hundreds of megabytes
        each = [slice(index, index + 1) for index in range(len(noise))]
        answers = [
            _with_deviation(denoiser, noise[one], conditioning.examples(one), predicted, steps, sampler) for one in each
        ]
        filled, deviations = zip(*answers, strict=True)
        return torch.cat(filled), torch.cat(deviations)
    missing, observed = conditioning.gap_mask, conditioning.observed
    assert missing is not None
    assert observed is not None
    conditioning = replace(conditioning, evidence=evidence_of(conditioning))
    step = torch.full((len(noise),), sampling_times(predicted.schedule, steps)[0], device=noise.device)
    told = replace(conditioning, levels=predicted.schedule.levels(step))
    mean, deviation = denoiser.estimate(noise, step, told)
    if steps == 1:
        return torch.where(missing, mean, observed), deviation
    return sample_inpainting(denoiser, noise, conditioning, predicted, steps, sampler=sampler), deviation


def _stacked(parts: Sequence[NDArray[np.float32]], like: torch.Tensor) -> torch.Tensor:
    """Parts [t, C, h, w] in a tensor of the shape of `like`, zero where a part is shorter than the window."""
    stacked = torch.zeros_like(like)
    for index, part in enumerate(parts):
        stacked[index, : len(part)] = torch.from_numpy(part)
    return stacked

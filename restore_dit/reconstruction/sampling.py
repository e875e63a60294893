"""Prepares windows of series as input to the network, and samples batches of windows, from one series or several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from itertools import groupby, islice
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from restore_dit.config import GapConfig, SamplerName
from restore_dit.data.examples.batch import to_batch
from restore_dit.data.examples.cutting import Cutter, Example, Window, stack
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.diffusion.noise import field_noise
from restore_dit.diffusion.prediction import Prediction
from restore_dit.diffusion.samplers import sample_inpainting, to_published_scale
from restore_dit.diffusion.schedule import sampling_times
from restore_dit.errors import UserError
from restore_dit.model.conditioning import Conditioning
from restore_dit.model.evidence import pixels_of
from restore_dit.model.interpolation import interpolate_from_other_dates
from restore_dit.model.pixel_denoiser import PixelDenoiser, evidence_of
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.tiling import SpatialTile, pad_to_multiple

_EVERY_ACQUISITION = 100_000

MOST_SAMPLES = 100
"""Maximum number of possible series that can be drawn at once."""

Sample = Callable[[Iterable["PreparedWindow"]], Iterator[NDArray[np.float32]]]
"""Yields the prediction of each window in order, [t, C, h, w] on the published scale; see `sample_windows`."""


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample.

    steps, sampler: if None, as in the model's configuration.
    seed: seed of the initial noise.
    batch_size: windows per forward pass.
    mask_dilation: pixels by which masks of cloud and shadow are dilated; if None, as in the model's configuration.
    calibrate: first hide and fill clear dates of the series to measure the errors; only applies to networks that
        estimate their uncertainty, sampled in one step.
    orbit_offsets: estimate what differs between the orbits that see the place, and fill the series without it; only
        applies to pixel networks.
    samples: number of possible series to draw beside the filled one (see `ensembles`).
    replace_suspect: fill pixels that count as observed but are probably cloud, haze or shadow (`suspects`), and do not
        use them to fill others.
    """

    steps: int | None = None
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    batch_size: int = 4
    mask_dilation: int | None = None
    sampler: SamplerName | None = None
    calibrate: bool = True
    orbit_offsets: bool = True
    replace_suspect: bool = False
    samples: int = 0

    def __post_init__(self) -> None:
        """Raises `UserError` for a value that makes no sense."""
        limits = (
            ("steps", 1, 10_000),
            ("mask_dilation", 0, 32),
            ("batch_size", 1, 10_000),
            ("samples", 0, MOST_SAMPLES),
        )
        for name, least, most in limits:
            value = getattr(self, name)
            if value is not None and not (_is_integer(value) and least <= value <= most):
                raise UserError(f"{name}={value!r}: must be an integer from {least} to {most}")
        if not _is_integer(self.seed):
            raise UserError(f"seed={self.seed!r}: must be an integer")
        choices = (("precision", ("fp32", "bf16")), ("sampler", (None, *get_args(SamplerName))))
        switches = ("calibrate", "orbit_offsets", "replace_suspect")
        for name, allowed in (*choices, *((switch, (True, False)) for switch in switches)):
            if getattr(self, name) not in allowed:
                raise UserError(f"{name}={getattr(self, name)!r}: must be one of {', '.join(map(str, allowed))}")

    @classmethod
    def named(cls, options: Mapping[str, Any]) -> SamplingOptions:
        """The options with these names.

        Raises:
            UserError: there is no such option, or its value makes no sense.
        """
        names = [one.name for one in fields(cls)]
        for name in options:
            if name not in names:
                close = get_close_matches(name, names, 1)
                meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
                raise UserError(f"{name}: there is no such option; {meant}")
        plain: dict[str, Any] = {}
        for name, value in options.items():
            plain[name] = value.item() if isinstance(value, np.integer) else value
        return cls(**plain)

    def solver(self, model: Model) -> tuple[SamplerName, int]:
        """Sampler and number of steps for a model.

        Raises:
            UserError: the sampler does not support the model's noise schedule.
        """
        diffusion = model.config.diffusion
        sampler = self.sampler or diffusion.sampler
        try:
            diffusion.require_sampler(sampler)
        except ValueError as error:
            raise UserError(f"sampling.sampler={sampler}: {error}; omit it to use the model's own") from None
        return sampler, self.steps or diffusion.sampling_steps

    def estimates_means(self, model: Model) -> bool:
        """Whether answers are means with standard deviations. With several steps they are random samples."""
        return model.config.model.predicts_uncertainty and self.solver(model)[1] == 1

    def calibrates(self, model: Model) -> bool:
        """Whether to calibrate the model on a series before filling it, which takes means."""
        return self.calibrate and self.estimates_means(model)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class PreparedWindow:
    """A window of one spatial tile, with everything that its prediction depends on.

    columns: the example, padded to T frames and to sides that are multiples of the patch size.
    noise: float32 [t, C, H, W] for the t real frames.
    anchor: float32 [t, C, H, W], interpolation from the other dates of the whole series, on the network's scale; None
        for a model without an anchor.
    size: (h, w) of the spatial tile, without padding.
    pixels: int64 [P], row-major indices of the pixels to predict, for a pixel network and one step only; None for all.
    """

    columns: Example
    noise: NDArray[np.float32]
    anchor: NDArray[np.float32] | None
    size: tuple[int, int]
    pixels: NDArray[np.int64] | None = None

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the columns; windows can be sampled together if they are equal."""
        columns = tuple(self.columns[name].shape for name in sorted(self.columns))
        return columns if self.pixels is None else (*columns, self.pixels.shape)

    @property
    def predicted_size(self) -> tuple[int, int]:
        """Height and width of the prediction: those of the tile, or a row of the chosen pixels."""
        return self.size if self.pixels is None else (1, len(self.pixels))


class WindowMaker:
    """Prepares windows of one spatial tile of a series.

    Args:
        tile: the series within the spatial tile.
        place: position of the spatial tile in the area; the noise depends on it.
        frames: [n] indices of the frames to reconstruct.
        gaps: [n, h, w] true where a pixel is hidden.
        seed: seed of the noise.
        device: device on which the anchor is computed.
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
        # `gaps` is final: dilation must take clouds outside this spatial tile into account, so it comes before cutting.
        network, data = model.config.model, model.config.data.model_copy(update={"gaps": GapConfig()})
        if network.network == "pixels" and data.radar is not None:  # training only limits it to save memory
            data = data.model_copy(update={"radar": data.radar.model_copy(update={"frames": _EVERY_ACQUISITION})})
        self._cutter = Cutter(data, network.bands, network.any_bands)
        self._patch = network.patch_size if network.network == "patches" else 1
        self._anchor = None
        if network.network == "patches" and network.anchor == "linear":
            self._anchor = self._interpolated_anchor(device)

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

    def _interpolated_anchor(self, device: torch.device) -> NDArray[np.float32]:
        """The anchor [n, C, H, W] from all dates of the series, whereas a window contains only its own."""
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


def sample_in_process(model: Model, options: SamplingOptions) -> Sample:
    """Samples in this process, `batch_size` windows per forward pass, while a thread prepares the next ones."""

    def sample(windows: Iterable[PreparedWindow]) -> Iterator[NDArray[np.float32]]:
        groups = _groups(windows, options.batch_size)
        with ThreadPoolExecutor(max_workers=1) as thread:
            waiting = thread.submit(next, groups, None)
            while (group := waiting.result()) is not None:
                waiting = thread.submit(next, groups, None)
                yield from sample_windows(model, group, options)

    return sample


def _groups(windows: Iterable[PreparedWindow], most: int) -> Iterator[list[PreparedWindow]]:
    """Groups of up to `most` consecutive windows of the same shape."""
    for _, alike in groupby(windows, lambda window: window.shape):
        while group := list(islice(alike, most)):
            yield group


_VALUES_AT_ONCE = 2**18
"""Maximum number of values [B, T, C, H, W] that a pixel network fills at once. Larger windows are filled one by one,
because the evidence of a long series takes hundreds of megabytes."""


@torch.no_grad()
def sample_windows(
    model: Model, windows: Sequence[PreparedWindow], options: SamplingOptions, *, keep_padding: bool = False
) -> list[NDArray[np.float32]]:
    """The prediction of each window, [t, C, h, w] on the published scale; [t, C, 1, P] if only some pixels are chosen.
    A network that estimates its uncertainty returns twice as many channels: the values, then their standard deviations.
    The windows must have the same `shape` but can come from different series. The seed of the options is not used: the
    noise is in the windows. Frames that are padding in all windows are left out where the network would only mask them,
    unless `keep_padding` is set, for a compiled network, which wants batches of one shape."""
    device = next(model.denoiser.parameters()).device
    sampler, steps = options.solver(model)
    columns = stack([window.columns for window in windows])
    masks = model.config.data.mask_padding
    batch = to_batch(
        columns, model.normalisation, mask_padding=masks, keep_padding=keep_padding or not masks, device=device
    )
    conditioning = batch.conditioning
    anchors = [window.anchor for window in windows if window.anchor is not None]
    if anchors:
        conditioning = replace(conditioning, anchor=_stacked(anchors, batch.target))
    pixels = [window.pixels for window in windows if window.pixels is not None]
    if pixels:
        conditioning = replace(conditioning, pixels=torch.from_numpy(np.stack(pixels)).to(device))
    noise = _stacked([window.noise for window in windows], batch.target)
    predicted, brightest = Prediction.from_config(model.config.diffusion), model.normalisation.brightest
    with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16"):
        if isinstance(model.denoiser, PixelDenoiser):
            filled, deviation = _sample_with_deviation(model.denoiser, noise, conditioning, predicted, steps, sampler)
            parts = [to_published_scale(filled.float(), brightest), deviation.float() / 2]
        else:
            filled = sample_inpainting(model.denoiser, noise, conditioning, predicted, steps, sampler=sampler)
            parts = [to_published_scale(filled.float(), brightest)]
    values = torch.cat(parts, dim=2).cpu().numpy()
    return [
        prediction[: len(window.noise), :, : window.predicted_size[0], : window.predicted_size[1]]
        for prediction, window in zip(values, windows, strict=True)
    ]


def _sample_with_deviation(
    denoiser: PixelDenoiser,
    noise: torch.Tensor,
    conditioning: Conditioning,
    predicted: Prediction,
    steps: int,
    sampler: SamplerName,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sampled series and the standard deviation of the network's first estimate, both in the shape of `noise`, on
    the network's scale. With one step, the first estimate is the result."""
    if len(noise) > 1 and noise.numel() > _VALUES_AT_ONCE:
        each = [slice(index, index + 1) for index in range(len(noise))]
        answers = [
            _sample_with_deviation(denoiser, noise[one], conditioning.examples(one), predicted, steps, sampler)
            for one in each
        ]
        filled, deviations = zip(*answers, strict=True)
        return torch.cat(filled), torch.cat(deviations)
    missing, observed = conditioning.gap_mask, conditioning.observed
    assert missing is not None
    assert observed is not None
    conditioning = replace(conditioning, evidence=evidence_of(conditioning))
    step = torch.full((len(noise),), sampling_times(predicted.schedule, steps)[0], device=noise.device)
    first_conditioning = replace(conditioning, levels=predicted.schedule.levels(step))
    mean, deviation = denoiser.estimate(noise, step, first_conditioning)
    if conditioning.pixels is not None:
        assert steps == 1
        missing, observed = pixels_of(missing, conditioning.pixels), pixels_of(observed, conditioning.pixels)
    if steps == 1:
        return torch.where(missing, mean, observed), deviation
    return sample_inpainting(denoiser, noise, conditioning, predicted, steps, sampler=sampler), deviation


def _stacked(parts: Sequence[NDArray[np.float32]], like: torch.Tensor) -> torch.Tensor:
    """Stacks parts [t, C, h, w] into a tensor with the shape of `like`; frames that a part lacks are zero."""
    stacked = torch.zeros_like(like)
    for index, part in enumerate(parts):
        stacked[index, : len(part)] = torch.from_numpy(part)
    return stacked

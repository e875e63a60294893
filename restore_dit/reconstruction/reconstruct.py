"""One series of any length and size through the model: windows in time, tiles in space, joined and blended.

Batch jobs, evaluation and the endpoint call the same function. Noise is a function of (seed, date, absolute pixel,
band) and windows lie on a grid anchored to the input, so the result does not depend on how it was batched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from restore_dit.config import GapConfig, SamplerName
from restore_dit.data.examples.batch import Batch, to_batch
from restore_dit.data.examples.cutting import Cutter, Example, Window, stack
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.data.examples.dilation import hidden_pixels
from restore_dit.data.examples.normalisation import published_scale_to_stored
from restore_dit.data.loader import ahead
from restore_dit.diffusion.noise import field_noise
from restore_dit.diffusion.prediction import Prediction
from restore_dit.diffusion.samplers import sample_inpainting, to_unit_range
from restore_dit.errors import UserError
from restore_dit.model.interpolation import interpolate_from_other_dates
from restore_dit.reconstruction.joining import join_windows
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.tiling import Blend, BlendWeights, SpatialTile, pad_to_multiple, spatial_tiles
from restore_dit.reconstruction.windows import time_windows
from restore_dit.series import NO_DATA, Acquisitions, TileSeries

DEFAULT_TILE = 128
"""Side in pixels of the network's spatial tile where training saw whole tiles."""


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample. `steps`, `sampler` and `mask_dilation` (pixels by which clouds and shadows are widened) None: as
    the model's configuration says; `batch_size`: windows at once."""

    steps: int | None = None
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    batch_size: int = 4
    mask_dilation: int | None = None
    sampler: SamplerName | None = None

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


def reconstruct(
    model: Model,
    series: TileSeries,
    frames: NDArray[np.intp],
    gaps: NDArray[np.bool_],
    options: SamplingOptions,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float32]:
    """The given frames of a series without gaps.

    Args:
        series: with cloud masks; radar of the model's track is used where it is there.
        frames: [n] indices of the optical frames, ascending; no other frame is looked at.
        gaps: [n, H, W] true where a pixel is hidden from the model besides the series' own clouds, widened, and missing
            data.
        on_progress: called with (windows done, windows in all).

    Returns:
        [n, C, H, W] on the published scale clamp(reflectance × 10000, 0, 8000) / 8000, bands in the model's order;
        observed pixels are clamped to that scale and otherwise as they were.
    """
    hidden = gaps | _missing(model, series, options)[frames]
    windows = time_windows(hidden.mean(axis=(1, 2)), model.config.data.frames)
    height, width = series.size
    side = model.config.data.crop or DEFAULT_TILE
    tiles = spatial_tiles(height, width, side, overlap=side // 4)
    weights = BlendWeights(height, width, side, overlap=side // 4)
    blend = Blend((len(frames), len(model.config.model.bands)), SpatialTile(0, 0, height, width))
    total, done = len(tiles) * len(windows), 0
    for place in tiles:
        predictions = []
        for prediction in _predict(model, _cut(series, place), place, frames, hidden, windows, options):
            predictions.append(prediction)
            done += 1
            on_progress(done, total)
        blend.add(place, join_windows(predictions, windows), weights[place])
    return blend.result()


def fill_gaps(
    model: Model,
    series: TileSeries,
    options: SamplingOptions,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[TileSeries, NDArray[np.bool_]]:
    """The whole series with its clouds, shadows and missing data replaced, and the gap mask [T, H, W] of what was: by
    the model's `data.gaps.dilation`, or the options', more than the masks say.

    Observed pixels come out exactly as they went in.
    """
    bands = model.config.model.bands
    lacking = [band for band in bands if band not in series.optical.bands]
    if lacking:
        raise UserError(f"tile {series.tile_id}: the model needs {', '.join(lacking)}, which the series lacks")
    order = [series.optical.bands.index(band) for band in bands]
    observed = series.optical.values[:, order]
    if series.clouds is None:
        raise UserError(f"tile {series.tile_id} has no cloud masks, so nobody knows its gaps; detect clouds first")
    gaps = _missing(model, series, options) | (observed == NO_DATA).any(axis=1)
    filled = reconstruct(model, series, np.arange(len(observed)), gaps, options, on_progress)
    values = np.where(gaps[:, None], published_scale_to_stored(filled), observed)
    clear = replace(series, optical=Acquisitions(values, series.optical.dates, bands), clouds=None)
    return clear, gaps


def mask_dilation(model: Model, options: SamplingOptions) -> int:
    """Pixels by which clouds and shadows are widened."""
    chosen = options.mask_dilation
    return model.config.data.gaps.dilation if chosen is None else chosen


def _missing(model: Model, series: TileSeries, options: SamplingOptions) -> NDArray[np.bool_]:
    """What the model is not to see of a series [T, H, W]: cloud and shadow, widened, and missing data."""
    missing = series.missing()
    return missing if series.clouds is None else missing | hidden_pixels(series.clouds, mask_dilation(model, options))


def _cut(series: TileSeries, place: SpatialTile) -> DecodedTile:
    """The part of a series below one spatial tile; views, no copies."""

    def cut(acquisitions: Acquisitions) -> Acquisitions:
        values = acquisitions.values[..., place.rows, place.columns]
        return Acquisitions(values, acquisitions.dates, acquisitions.bands)

    radar = {track: cut(acquisitions) for track, acquisitions in series.radar.items()}
    clouds = None if series.clouds is None else series.clouds[:, place.rows, place.columns]
    return DecodedTile(replace(series, optical=cut(series.optical), clouds=clouds, radar=radar))


@torch.no_grad()
def _predict(
    model: Model,
    tile: DecodedTile,
    place: SpatialTile,
    frames: NDArray[np.intp],
    gaps: NDArray[np.bool_],
    windows: list[tuple[int, int]],
    options: SamplingOptions,
) -> Iterator[NDArray[np.float32]]:
    """The prediction of each window of one spatial tile, [T, C, h, w] on the published scale."""
    device = next(model.denoiser.parameters()).device
    predicted = Prediction.from_config(model.config.diffusion)
    sampler, steps = options.solver(model)
    # What is hidden is decided already, with the clouds beyond this spatial tile.
    cutter = Cutter(model.config.data.model_copy(update={"gaps": GapConfig()}), model.config.model.bands)
    patch = model.config.model.patch_size

    def example(start: int, stop: int, *, padded: bool) -> Example:
        hidden = gaps[start:stop, place.rows, place.columns]
        side = (place.height, place.width)
        window = Window(frames[start:stop], hidden, (0, 0), side)
        return _fit_patches(cutter.cut(tile, window, padded=padded), patch)

    def build(group: list[tuple[int, int]]) -> tuple[list[tuple[int, int]], Batch]:
        columns = stack([example(*window, padded=True) for window in group])
        mask_padding = model.config.data.mask_padding
        return group, to_batch(columns, model.normalisation, mask_padding=mask_padding, device=device)

    anchor = _anchor(model, example(0, len(frames), padded=False), device)
    groups = [windows[i : i + options.batch_size] for i in range(0, len(windows), options.batch_size)]
    for group, batch in ahead(build, groups):
        conditioning = batch.conditioning
        if anchor is not None:
            conditioning = replace(conditioning, anchor=_stacked([anchor[a:b] for a, b in group], batch.target))
        noise = _stacked([_noise(model, tile, frames[a:b], place, options.seed) for a, b in group], batch.target)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16"):
            sampled = sample_inpainting(model.denoiser, noise, conditioning, predicted, steps, sampler=sampler)
        values = to_unit_range(sampled.float()).cpu().numpy()
        for prediction, (start, stop) in zip(values, group, strict=True):
            yield prediction[: stop - start, :, : place.height, : place.width]


def _fit_patches(example: Example, patch: int) -> Example:
    """An area smaller than the network's tile may have a side that the patch size does not divide."""
    images = ("optical", "valid", "gap_mask", "radar")
    return example | {name: pad_to_multiple(example[name], patch) for name in images if name in example}


def _anchor(model: Model, whole: Example, device: torch.device) -> torch.Tensor | None:
    """What the other dates of the whole series say of every pixel [n, C, h, w]; a window sees only its own."""
    if model.config.model.anchor == "none":
        return None
    batch = to_batch(stack([whole]), model.normalisation, device=device)
    gaps, dates = batch.conditioning.gap_mask, batch.conditioning.optical_dates
    assert gaps is not None
    assert dates is not None
    return interpolate_from_other_dates(batch.target, ~gaps, dates)[0]


def _noise(model: Model, tile: DecodedTile, frames: NDArray[np.intp], place: SpatialTile, seed: int) -> torch.Tensor:
    days = tile.optical.dates[frames].astype("datetime64[D]").astype(np.int64)
    patch = model.config.model.patch_size
    rows = np.arange(place.row, place.row + place.height + -place.height % patch)
    columns = np.arange(place.column, place.column + place.width + -place.width % patch)
    return torch.from_numpy(field_noise(seed, days, rows, columns, len(model.config.model.bands)))


def _stacked(parts: list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """Parts [t, C, h, w] in a tensor of the shape of `like`, zero where a part is shorter than the window."""
    stacked = torch.zeros_like(like)
    for index, part in enumerate(parts):
        stacked[index, : len(part)] = part
    return stacked

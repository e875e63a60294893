"""One series of any length and size through the model: windows in time, tiles in space, joined and blended.

Batch jobs, evaluation and the endpoint call the same function. Noise is a function of (seed, date, absolute pixel,
band) and windows lie on a grid anchored to the input, so the result does not depend on how it was batched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from restore_dit import __version__
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.data.examples.dilation import hidden_pixels
from restore_dit.data.examples.normalisation import published_scale_to_stored, stored_to_published_scale
from restore_dit.errors import UserError
from restore_dit.reconstruction.joining import join_windows
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.own_errors import OwnErrors, compare, learn, visible_nearby
from restore_dit.reconstruction.probes import choose_probes
from restore_dit.reconstruction.sampling import PreparedWindow, Sample, SamplingOptions, WindowMaker, sampled_here
from restore_dit.reconstruction.tiling import Blend, BlendWeights, SpatialTile, spatial_tiles
from restore_dit.reconstruction.windows import time_windows
from restore_dit.series import NEVER_OBSERVED, NO_DATA, UNCERTAINTY, Acquisitions, TileSeries, days_since_origin

DEFAULT_TILE = 128
"""Side in pixels of the network's spatial tile where training saw whole tiles."""

PIXELS_TILE = 64
"""That of a network of pixels, which sees the whole series at once: a year of 70 dates takes 200 MB."""

OnProgress = Callable[[int, int], None]
"""Called with (windows done, windows in all), those on which the model is tried first among them."""


class Filled(NamedTuple):
    """`values` [n, C, H, W] on the published scale, their standard `deviation` in the same shape and what is known of
    the model's `own_errors` on this series; None of a network that does not say how sure it is."""

    values: NDArray[np.float32]
    deviation: NDArray[np.float32] | None = None
    own_errors: OwnErrors | None = None


class GapFree(NamedTuple):
    """A `series` without gaps and `gap_mask` [T, H, W], what of it was filled; `own_errors` as of `Filled`."""

    series: TileSeries
    gap_mask: NDArray[np.bool_]
    own_errors: OwnErrors | None


def reconstruct(
    model: Model,
    series: TileSeries,
    frames: NDArray[np.intp],
    gaps: NDArray[np.bool_],
    options: SamplingOptions,
    on_progress: OnProgress = lambda done, total: None,
    sample: Sample | None = None,
) -> NDArray[np.float32]:
    """The values alone of `reconstruct_with_deviation`, [n, C, H, W]."""
    return reconstruct_with_deviation(model, series, frames, gaps, options, on_progress, sample).values


def reconstruct_with_deviation(
    model: Model,
    series: TileSeries,
    frames: NDArray[np.intp],
    gaps: NDArray[np.bool_],
    options: SamplingOptions,
    on_progress: OnProgress = lambda done, total: None,
    sample: Sample | None = None,
) -> Filled:
    """The given frames of a series without gaps.

    Args:
        series: with cloud masks; radar of the model's track is used where it is there.
        frames: [n] indices of the optical frames, ascending; no other frame is looked at.
        gaps: [n, H, W] true where a pixel is hidden from the model besides the series' own clouds, widened, and missing
            data.
        sample: what samples the windows; none: this process.

    Returns:
        on the published scale clamp(reflectance × 10000, 0, 8000) / 8000, the bands of `Model.bands_of`; observed
        pixels are clamped to that scale and otherwise as they were, and their deviation means nothing.
    """
    bands = model.bands_of(series.optical.bands, f"tile {series.tile_id}")
    hidden = gaps | _missing(model, series, options)[frames]
    height, width = series.size
    if model.config.model.network == "pixels":
        windows, side = [(0, len(frames))], PIXELS_TILE
    else:
        windows = time_windows(hidden.mean(axis=(1, 2)), model.config.data.frames)
        side = model.config.data.crop or DEFAULT_TILE
    tiles = spatial_tiles(height, width, side, overlap=side // 4)
    weights = BlendWeights(height, width, side, overlap=side // 4)
    of_model = len(model.config.model.bands)
    says_deviation = model.config.model.says_how_sure
    blend = Blend((len(frames), of_model * (1 + says_deviation)), SpatialTile(0, 0, height, width))
    total, done = len(tiles) * len(windows), 0
    device = next(model.denoiser.parameters()).device

    def maker(place: SpatialTile, gaps: NDArray[np.bool_]) -> WindowMaker:
        return WindowMaker(model, _cut(series, place), place, frames, gaps, options.seed, device)

    def prepared() -> Iterator[PreparedWindow]:
        for place in tiles:
            make = maker(place, hidden[:, place.rows, place.columns])
            yield from (make(start, stop) for start, stop in windows)

    def counted(predictions: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        nonlocal done
        for prediction in predictions:
            done += 1
            on_progress(done, total)
            yield prediction

    sample = sample or sampled_here(model, options)
    places = np.array([model.config.model.bands.index(band) for band in bands])
    order = [series.optical.bands.index(band) for band in bands]
    days = days_since_origin(series.optical.dates[frames])

    def published(place: SpatialTile) -> NDArray[np.float32]:
        return stored_to_published_scale(series.optical.values[:, :, place.rows, place.columns][frames][:, order])

    own = None
    if options.tries(model):
        network = model.config.model
        reach = network.depth * network.nearest
        probes = choose_probes(~hidden, days)
        total += len(probes)
        trial = compare(
            probes, published, ~hidden, days, places, reach, maker, lambda windows: counted(sample(windows))
        )
        own = learn(trial)
    predictions = counted(sample(prepared()))
    for place in tiles:
        blend.add(place, join_windows(islice(predictions, len(windows)), windows), weights[place])
    blended = blend.result()
    del blend
    values, deviation = blended[:, places], blended[:, of_model + places] if says_deviation else None
    del blended
    if own is not None and deviation is not None:
        beside = visible_nearby(~hidden)
        for row in range(0, height, PIXELS_TILE):  # for the memory's sake
            strip = SpatialTile(row, 0, min(PIXELS_TILE, height - row), width)
            here = (slice(None), slice(None), strip.rows)
            own.temper(
                values[here], deviation[here], published(strip), ~hidden[:, strip.rows], beside[:, strip.rows], days
            )
    return Filled(values, deviation, own)


def fill_gaps(
    model: Model,
    series: TileSeries,
    options: SamplingOptions,
    on_progress: OnProgress = lambda done, total: None,
    sample: Sample | None = None,
) -> GapFree:
    """The model's bands of the whole series with clouds, shadows and missing data replaced, and the gap mask of what
    was: by the model's `data.gaps.dilation`, or the options', more than the masks say.

    Observed pixels come out exactly as they went in. The layer `NEVER_OBSERVED` marks those that have no such date; the
    layer `UNCERTAINTY` is there where the network says how sure it is.

    Raises:
        UserError: the series lacks a band or masks, or nothing of it is observed.
    """
    bands = model.bands_of(series.optical.bands, f"tile {series.tile_id}")
    order = [series.optical.bands.index(band) for band in bands]
    if series.clouds is None:
        raise UserError(f"tile {series.tile_id} has no cloud masks, so nobody knows its gaps; detect clouds first")
    observed = series.optical.values[:, order]
    series = replace(series, optical=Acquisitions(observed, series.optical.dates, bands))
    gaps = _missing(model, series, options)
    never_observed = gaps.all(axis=0)
    if never_observed.all():
        raise UserError(f"tile {series.tile_id}: {_why_nothing_is_observed(model, series, options)}")
    filled = reconstruct_with_deviation(model, series, np.arange(len(observed)), gaps, options, on_progress, sample)
    values = np.where(gaps[:, None], published_scale_to_stored(filled.values), observed)
    marks: dict[str, NDArray[np.integer]] = {NEVER_OBSERVED: np.asarray(never_observed, np.uint8)}
    if filled.deviation is not None:
        marks[UNCERTAINTY] = np.where(gaps[:, None], published_scale_to_stored(filled.deviation), np.int16(0))
    optical = Acquisitions(values, series.optical.dates, bands)
    kept = {name: layer for name, layer in series.layers.items() if name != UNCERTAINTY}
    clear = replace(series, optical=optical, clouds=None, layers=kept | marks)
    return GapFree(clear, gaps, filled.own_errors)


def _why_nothing_is_observed(model: Model, series: TileSeries, options: SamplingOptions) -> str:
    empty = (series.optical.values == NO_DATA).all(axis=(0, 2, 3))
    if empty.any():
        bands = ", ".join(band for band, lacks in zip(series.optical.bands, empty, strict=True) if lacks)
        return f"no pixel has data of {bands} on any date, which leaves nothing to fill from; take a model without"
    if series.missing().all():
        return (
            f"no pixel is observed on any of its {len(series.optical)} dates: all are cloud, shadow or no data, which "
            "leaves nothing to fill from; take more dates, or other masks"
        )
    return (
        f"no pixel is observed on any of its {len(series.optical)} dates: clouds and shadows, widened by "
        f"{mask_dilation(model, options)} pixels, hide all; set mask_dilation=0, or take more dates"
    )


def provenance(model: Model, name: str, options: SamplingOptions, filled: GapFree) -> dict[str, str]:
    """What made a series, and what was found out on the way, as results say it; `name` is the model's."""
    sampler, steps = options.solver(model)
    own = filled.own_errors
    found = {} if own is None else own.attributes(filled.series.optical.bands)
    return found | {
        "SOFTWARE": f"restore-dit {__version__}",
        "MODEL": name,
        "SEED": str(options.seed),
        "STEPS": str(steps),
        "SAMPLER": sampler,
        "MASK_DILATION": str(mask_dilation(model, options)),
    }


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
    return DecodedTile(replace(series, optical=cut(series.optical), clouds=clouds, radar=radar, other_clouds={}))

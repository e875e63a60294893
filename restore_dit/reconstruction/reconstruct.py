"""Reconstructs one series of any length and size: splits it into windows in time and tiles in space, runs the model,
joins the windows and blends the tiles.

Batch jobs, evaluation and the endpoint call the same function. The noise is a function of seed, date, absolute pixel
and band, and windows lie on a grid anchored to the input, so the result does not depend on the batching.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.data.examples.dilation import hidden_pixels, mistaken_ground
from restore_dit.data.examples.normalisation import (
    OPTICAL_CEILING,
    stored_to_published_scale,
)
from restore_dit.reconstruction.calibration import (
    SeriesCalibration,
    at_pixels,
    calibrate,
    compare,
    visible_nearby,
)
from restore_dit.reconstruction.departures import departures, interpolate, weights_around
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.orbits import OrbitOffsets, estimate_orbit_offsets
from restore_dit.reconstruction.probes import choose_probes
from restore_dit.reconstruction.sampling import PreparedWindow, Sample, SamplingOptions, WindowMaker, sample_in_process
from restore_dit.reconstruction.suspects import find_suspects
from restore_dit.reconstruction.tiling import Blend, BlendWeights, SpatialTile, spatial_tiles
from restore_dit.reconstruction.windows import join_windows, time_windows
from restore_dit.series import (
    NO_DATA,
    Acquisitions,
    TileSeries,
    days_since_origin,
)

DEFAULT_TILE = 128
"""Side length in pixels of a spatial tile, for a network that was trained on whole tiles."""

PIXELS_TILE = 64
"""The same for a pixel network, which takes the whole series at once: 70 dates take 300 MB."""

OnProgress = Callable[[int, int], None]
"""Called with (windows done, windows in total), both including the windows used for calibration."""


class Filled(NamedTuple):
    """`values` [n, C, H, W] on the published scale, their standard `deviation` in the same shape (None if the network
    does not estimate it), the `calibration` on this series and the offsets of its `orbits` (None if there were none;
    their bands are those of the series). `suspect` [n, H, W] is true where an observed pixel was replaced as suspect;
    None if the options do not ask for that. `linear_share` is the mean weight of linear interpolation in the filled
    values because the network hardly departs from it (`departures`); None if answers are not means."""

    values: NDArray[np.float32]
    deviation: NDArray[np.float32] | None = None
    calibration: SeriesCalibration | None = None
    orbits: OrbitOffsets | None = None
    suspect: NDArray[np.bool_] | None = None
    linear_share: float | None = None


def reconstruct(
    model: Model,
    series: TileSeries,
    frames: NDArray[np.intp],
    gaps: NDArray[np.bool_],
    options: SamplingOptions,
    on_progress: OnProgress = lambda done, total: None,
    sample: Sample | None = None,
) -> NDArray[np.float32]:
    """The values of `reconstruct_with_deviation` without their deviation, [n, C, H, W]."""
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
    """Fills the gaps in the given frames of a series.

    Args:
        series: with cloud masks; radar of the model's track is used if present.
        frames: [n] ascending indices of optical frames; no other optical frame is used.
        gaps: [n, H, W] true where a pixel is to be hidden from the model, in addition to missing data and to the
            series' own clouds, dilated.
        sample: samples the windows; if None, in this process.

    Returns:
        The bands of `Model.bands_of`, on the published scale, where 1 is a reflectance of 0.8. Observed pixels are
        clipped to [0, `model.normalisation.brightest`] and otherwise unchanged; their deviation has no meaning.

    Raises:
        UserError: the series lacks a band that the model needs.
    """
    bands = model.bands_of(series.optical.bands, f"tile {series.tile_id}")
    hidden = gaps | missing_pixels(model, series, options)[frames]
    suspect = None
    if options.replace_suspect:
        suspect = find_suspects(series.optical, frames, ~hidden, bands)
        hidden |= suspect
    height, width = series.size
    if model.config.model.network == "pixels":
        windows, side = [(0, len(frames))], PIXELS_TILE
    else:
        windows = time_windows(hidden.mean(axis=(1, 2)), model.config.data.frames)
        side = model.config.data.crop or DEFAULT_TILE
    tiles = spatial_tiles(height, width, side, overlap=side // 4)
    weights = BlendWeights(height, width, side, overlap=side // 4)
    network_bands = len(model.config.model.bands)
    has_deviation = model.config.model.predicts_uncertainty
    blend = Blend((len(frames), network_bands * (1 + has_deviation)), SpatialTile(0, 0, height, width))
    total, done = len(tiles) * len(windows), 0
    device = next(model.denoiser.parameters()).device

    def maker(place: SpatialTile, gaps: NDArray[np.bool_], left_out: int | None = None) -> WindowMaker:
        tile = DecodedTile(levelled.cut(place, left_out))
        return WindowMaker(model, tile, place, frames, gaps, options.seed, device)

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

    sample = sample or sample_in_process(model, options)
    band_indices = np.array([model.config.model.bands.index(band) for band in bands])
    order = [series.optical.bands.index(band) for band in bands]
    days = days_since_origin(series.optical.dates[frames])
    offsets = None
    if options.orbit_offsets and model.config.model.network == "pixels":
        offsets = estimate_orbit_offsets(series.optical.values, frames, ~hidden, days)
    levelled = _WithoutOffsets(series, frames, offsets, model.normalisation.optical_ceiling)

    def published(place: SpatialTile, left_out: int | None = None) -> NDArray[np.float32]:
        values = levelled.cut(place, left_out).optical.values[frames][:, order]
        return stored_to_published_scale(values, model.normalisation.optical_ceiling)

    def linear(
        place: SpatialTile,
        shown: NDArray[np.bool_],
        pixels: NDArray[np.int64] | None = None,
        left_out: int | None = None,
    ) -> NDArray[np.float32]:
        values = _cut(series, place).optical.values[frames][:, order]
        if pixels is not None:
            values, shown = at_pixels(values, pixels), at_pixels(shown, pixels)
        interpolated = interpolate(stored_to_published_scale(values, model.normalisation.optical_ceiling), shown, days)
        interpolated -= levelled.shift(order, left_out)
        return interpolated

    calibration = None
    if options.calibrates(model):
        network = model.config.model
        reach = network.depth * network.nearest
        probes = choose_probes(~hidden, days)
        total += len(probes)
        comparisons = compare(
            probes, published, linear, ~hidden, band_indices, reach, maker, lambda windows: counted(sample(windows))
        )
        calibration = calibrate(comparisons)
    predictions = counted(sample(prepared()))
    for place in tiles:
        blend.add(place, join_windows(islice(predictions, len(windows)), windows), weights[place])
    blended = blend.result()
    del blend
    values, deviation = blended[:, band_indices], blended[:, network_bands + band_indices] if has_deviation else None
    del blended
    strips = [SpatialTile(row, 0, min(PIXELS_TILE, height - row), width) for row in range(0, height, PIXELS_TILE)]
    linear_share = None
    if deviation is not None and options.estimates_means(model):
        linear_share = blend_with_linear(values, deviation, calibration, hidden, linear, strips)
    for strip in strips:
        levelled.restore(values[:, :, strip.rows], strip, hidden[:, strip.rows], order)
    return Filled(values, deviation, calibration, offsets, suspect, linear_share)


def blend_with_linear(
    values: NDArray[np.float32],
    deviation: NDArray[np.float32],
    calibration: SeriesCalibration | None,
    hidden: NDArray[np.bool_],
    linear: Callable[[SpatialTile, NDArray[np.bool_]], NDArray[np.float32]],
    strips: Sequence[SpatialTile],
) -> float:
    """Weighs the answer against linear interpolation, by its departures from it and by the calibration, and rescales
    the `deviation` [n, C, H, W], both in place. `linear` is as in `compare`, for all pixels. `values` [n, C, H, W] are
    not changed where a pixel is visible, nor where it is visible on no date, since there is nothing to interpolate
    from. The area is interpolated in `strips`, twice, to save memory.

    Returns:
        The mean weight of linear interpolation in the changed values that its departures gave it.
    """
    fillable = hidden & ~hidden.all(axis=0)
    departure = np.empty(hidden.shape, np.float32)
    for strip in strips:
        here = (slice(None), slice(None), strip.rows)
        interpolated = linear(strip, ~hidden[:, strip.rows])
        departure[:, strip.rows] = departures(values[here], deviation[here], interpolated, axis=1)
    if calibration is not None:
        departure /= np.float32(calibration.network_scale**2)
    weights = weights_around(departure, fillable)[:, None]
    beside = visible_nearby(~hidden) if calibration is not None else None
    for strip in strips:
        here = (slice(None), slice(None), strip.rows)
        share = weights[here]
        if calibration is not None and beside is not None:
            share = share * calibration.share_at(beside[:, strip.rows])
            deviation[here] *= calibration.scale_at(beside[:, strip.rows])
        blended = linear(strip, ~hidden[:, strip.rows])
        blended += share * (values[here] - blended)
        np.copyto(values[here], blended, where=fillable[:, None, strip.rows])
    return float(1 - weights[:, 0][fillable].mean()) if fillable.any() else 0.0


@dataclass(frozen=True)
class _WithoutOffsets:
    """A series without the offsets of its orbits, if it has any, at the n frames to be filled. Restored values are
    clipped at the stored integer `ceiling`."""

    series: TileSeries
    frames: NDArray[np.intp]
    offsets: OrbitOffsets | None
    ceiling: int

    def cut(self, place: SpatialTile, left_out: int | None = None) -> TileSeries:
        """The series within a spatial tile, without the offsets; if a frame is left out, without those that the others
        show."""
        cut = _cut(self.series, place)
        if self.offsets is None:
            return cut
        values = cut.optical.values.copy()
        at_frames = values[self.frames]
        shift = self.offsets.of_dates(left_out)[:, :, None, None]
        values[self.frames] = np.where(at_frames == NO_DATA, at_frames, at_frames - shift)
        return replace(cut, optical=replace(cut.optical, values=values))

    def shift(self, order: list[int], left_out: int | None = None) -> NDArray[np.float32]:
        """The offset of each date in these bands on the published scale, [n, C, 1, 1]."""
        if self.offsets is None:
            return np.zeros((1, 1, 1, 1), np.float32)
        offsets = self.offsets.of_dates(left_out)[:, order, None, None]
        return offsets.astype(np.float32) / np.float32(OPTICAL_CEILING)

    def restore(
        self, values: NDArray[np.float32], place: SpatialTile, hidden: NDArray[np.bool_], order: list[int]
    ) -> None:
        """Adds the offsets to the `values` [n, C, h, w] of a tile on the published scale, in place, where they were
        `hidden` [n, h, w]. The others are what was observed. order: [C] indices of these bands in the series."""
        if self.offsets is None:
            return
        observed = _cut(self.series, place).optical.values[self.frames][:, order]
        filled = (values + self.shift(order)).clip(0, self.ceiling / OPTICAL_CEILING)
        np.copyto(values, np.where(hidden[:, None], filled, stored_to_published_scale(observed, self.ceiling)))


def mask_dilation(model: Model, options: SamplingOptions) -> int:
    """Pixels by which masks of cloud and shadow are dilated."""
    chosen = options.mask_dilation
    return model.config.data.gaps.dilation if chosen is None else chosen


def missing_pixels(model: Model, series: TileSeries, options: SamplingOptions) -> NDArray[np.bool_]:
    """The pixels of a series that are hidden from the model [T, H, W]: dilated cloud and shadow, and missing data."""
    missing = series.missing()
    if series.clouds is None:
        return missing
    return missing | hidden_pixels(series.clouds, mask_dilation(model, options), mistaken_ground(series.clouds))


def _cut(series: TileSeries, place: SpatialTile) -> TileSeries:
    """The part of a series within one spatial tile, as views."""

    def cut(acquisitions: Acquisitions) -> Acquisitions:
        values = acquisitions.values[..., place.rows, place.columns]
        return Acquisitions(values, acquisitions.dates, acquisitions.bands)

    radar = {track: cut(acquisitions) for track, acquisitions in series.radar.items()}
    clouds = None if series.clouds is None else series.clouds[:, place.rows, place.columns]
    return replace(series, optical=cut(series.optical), clouds=clouds, radar=radar, other_clouds={})

"""What is hidden from a model and what is scored: the published test protocol, and entirely missing frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from restore_dit.config import DataConfig
from restore_dit.config.jobs import EvaluationConfig
from restore_dit.data.examples.cutting import size
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.data.examples.maker import ExampleMaker
from restore_dit.data.examples.normalisation import (
    BRIGHT_CEILING,
    published_scale_to_reflectance,
    stored_to_published_scale,
)
from restore_dit.data.randomness import generator
from restore_dit.data.store.stored_tile import StoredTile
from restore_dit.evaluation.baselines import BASELINES, fill
from restore_dit.evaluation.figures import series_figure, strip_figure, to_png
from restore_dit.evaluation.frames import REFERENCE, FrameErrors, error_sums
from restore_dit.evaluation.metrics import PUBLISHED_SCALE, REFLECTANCE, SeriesScores, score_frames
from restore_dit.indices import vegetation_index
from restore_dit.reconstruction.batch import sampling_options
from restore_dit.reconstruction.calibration import LEVELS, intervals_of
from restore_dit.reconstruction.ensembles import Marginals, band_errors, index_deviation
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.reconstruct import Filled, reconstruct_with_deviation
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import NO_DATA, REFLECTANCE_SCALE, Acquisitions, TileSeries, days_since_origin

MODEL_NAME = "RESTORE-DiT"

Method = Callable[[TileSeries, NDArray[np.intp], NDArray[np.bool_]], Filled]
"""A gap-filling method: (series, frames [n], gaps [n, H, W]) → these frames in all bands of the series. It uses no
other optical frame and nothing that is hidden."""


@dataclass(frozen=True)
class Trial:
    """One series as a protocol presents it: `gaps` [n, H, W] are hidden, `scored` are the indices of the frames that
    count."""

    frames: NDArray[np.intp]
    gaps: NDArray[np.bool_]
    scored: NDArray[np.intp]


@dataclass
class TileScores:
    """A tile's results: scores by method, one entry per scale and trial; the errors of its scored frames that have
    missing pixels; and its figures as PNG, by file name."""

    tile_id: str
    scores: dict[str, list[SeriesScores]] = field(default_factory=dict)
    frames: list[FrameErrors] = field(default_factory=list)
    missing_pixels: int = 0
    pixels: int = 0
    figures: dict[str, bytes] = field(default_factory=dict)


def trials(config: EvaluationConfig, maker: ExampleMaker, tile: StoredTile | DecodedTile) -> Iterator[Trial]:
    """Yields the trials of a tile. `paper`: all clear frames, with the tile's own first cloud masks in order as gaps,
    all scored (the published test sample). `missing-frame`: the same frames with one of them entirely hidden and
    nothing else, scored alone, for up to `hidden_frames` seeded choices."""
    frames = maker.clear_frames(tile, config.part)
    if config.protocol == "paper":
        yield Trial(frames, maker.missing(tile)[: len(frames)], np.arange(len(frames)))
        return
    order = generator(config.sampling.seed, "hidden frames", tile.tile_id).permutation(len(frames))
    for hidden in sorted(order[: config.hidden_frames]):
        gaps = np.zeros((len(frames), *size(tile)), bool)
        gaps[hidden] = True
        yield Trial(frames, gaps, np.array([hidden]))


def data_of(model: Model, config: EvaluationConfig) -> DataConfig:
    """The model's data configuration, with the evaluation's rule for which frames may be scored, if it has one."""
    data = model.config.data
    return data if config.targets is None else data.model_copy(update={"targets": config.targets})


def baseline_methods() -> dict[str, Method]:
    """Every baseline by its name."""

    def filled(name: str, series: TileSeries, frames: NDArray[np.intp], gaps: NDArray[np.bool_]) -> Filled:
        values = stored_to_published_scale(series.optical.values[frames], BRIGHT_CEILING)
        return Filled(fill(name, values, gaps, days_since_origin(series.optical.dates[frames])))

    return {name: partial(filled, name) for name in BASELINES}


def model_method(model: Model, options: SamplingOptions) -> Method:
    """The model as a `Method`, for series of bands that it fills, in any order."""

    def filled(series: TileSeries, frames: NDArray[np.intp], gaps: NDArray[np.bool_]) -> Filled:
        wanted = series.optical.bands
        bands = model.bands_of(wanted, f"tile {series.tile_id}")
        order = [bands.index(band) for band in wanted]
        answer = reconstruct_with_deviation(model, series, frames, gaps, options)
        deviation = None if answer.deviation is None else answer.deviation[:, order]
        return Filled(answer.values[:, order], deviation, answer.calibration)

    return filled


def evaluate_tile(
    model: Model, stored: StoredTile, config: EvaluationConfig, *, with_figures: bool, beside: Model | None = None
) -> TileScores:
    """Scores the model, a second one if given, and every baseline on one tile, over the bands that the model fills."""
    bands = model.bands_of(stored.optical.bands, f"tile {stored.tile_id}")
    maker = ExampleMaker(data_of(model, config), bands, model.config.seed)
    options = sampling_options(config.sampling)
    methods = baseline_methods() | {MODEL_NAME: model_method(model, options)}
    if beside is not None:
        methods[beside_name(config)] = model_method(beside, options)
    return score_tile(methods, stored, maker, config, shown=MODEL_NAME if with_figures else None)


def beside_name(config: EvaluationConfig) -> str:
    """The name of the second model in tables."""
    return f"beside: {config.beside}"


def score_tile(
    methods: Mapping[str, Method],
    stored: StoredTile,
    maker: ExampleMaker,
    config: EvaluationConfig,
    *,
    shown: str | None = None,
) -> TileScores:
    """Scores of several methods on one tile, on the published scale and in true reflectance.

    Args:
        methods: by name; all fill the same gaps of the same frames.
        maker: determines which frames of the tile may be scored, which of their pixels are unknown, and which bands are
            filled.
        shown: the method that figures compare with linear interpolation; None for no figures.
    """
    whole, bands = stored.series(), maker.bands
    tile, series = DecodedTile(whole), _of_bands(whole, bands)
    result = TileScores(stored.tile_id)
    for number, trial in enumerate(trials(config, maker, tile)):
        optical = series.optical.values[trial.frames]
        unknown = maker.unknown(tile)[trial.frames] | (optical == NO_DATA).any(axis=1)
        gaps = trial.gaps | unknown
        dates = series.optical.dates[trial.frames]
        published, unclipped = stored_to_published_scale(optical), stored_to_published_scale(optical, BRIGHT_CEILING)
        reflectance = optical.astype(np.float32) / np.float32(REFLECTANCE_SCALE)
        known, missing = ~unknown, gaps & ~unknown
        sums: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        estimated: dict[str, NDArray[np.floating]] = {}
        within: dict[str, NDArray[np.float64]] = {}  # [n, H, W, levels]
        half_width: NDArray[np.float64] | None = None
        for name, method in methods.items():
            answer, hidden = method(series, trial.frames, gaps), gaps[:, None]
            prediction = answer.values
            estimates: dict[str, tuple[NDArray[np.float32], NDArray[np.floating]]] = {
                PUBLISHED_SCALE: (published, np.where(hidden, prediction.clip(0, 1), published)),
                REFLECTANCE: (reflectance, np.where(hidden, published_scale_to_reflectance(prediction), reflectance)),
            }
            for scale, (target, estimate) in estimates.items():
                scores = score_frames(target, estimate, gaps, unknown, frames=trial.scored, scale_name=scale)
                result.scores.setdefault(name, []).append(scores)
            sums[name] = error_sums(*estimates[PUBLISHED_SCALE], missing)
            estimated[name] = estimates[REFLECTANCE][1]
            if answer.deviation is not None:
                in_deviations = np.abs(prediction - unclipped) / answer.deviation
                widths = intervals_of(answer.calibration)
                within[name] = np.stack([(in_deviations <= width).mean(axis=1) for width in widths], axis=-1)
                index = vegetation_index(reflectance, bands)
                if name == shown and not result.figures and index is not None:
                    errors = Marginals(prediction, answer.deviation, band_errors(answer.calibration, bands))
                    acquired, seed = Acquisitions(optical, dates, bands), config.sampling.seed
                    spread = index_deviation(index[0].split()[0], errors, gaps, acquired, series.georeference, seed)
                    half_width = spread * widths[LEVELS.index(0.8)]
        result.missing_pixels += int(missing[trial.scored].sum())
        result.pixels += int(known[trial.scored].sum())
        result.frames += [
            FrameErrors(
                tile_id=tile.tile_id,
                series=number,
                date=str(dates[frame]),
                missing=int(missing[frame].sum()),
                visible_share=1 - float(missing[frame].sum() / known[frame].sum()),
                squared={name: float(squared[frame]) for name, (squared, _) in sums.items()},
                absolute={name: float(absolute[frame]) for name, (_, absolute) in sums.items()},
                within={name: tuple(held[frame][missing[frame]].mean(axis=0)) for name, held in within.items()},
            )
            for frame in trial.scored
            if missing[frame].any()
        ]
        if shown is not None and not result.figures:
            compared = {shown: estimated[shown], REFERENCE: estimated[REFERENCE]}
            frames = list(trial.scored) if config.protocol == "missing-frame" else None
            strips = strip_figure(
                reflectance, compared, gaps, dates, bands, target_cloud_mask=unknown, frames=frames, title=tile.tile_id
            )
            result.figures = {f"{tile.tile_id}_strips.png": to_png(strips)}
            if vegetation_index(reflectance, bands) is not None:
                curves = series_figure(
                    reflectance, compared, gaps, dates, bands,
                    target_cloud_mask=unknown, half_width=half_width, title=tile.tile_id,
                )  # fmt: skip
                result.figures[f"{tile.tile_id}_ndvi.png"] = to_png(curves)
    return result


def _of_bands(series: TileSeries, bands: tuple[str, ...]) -> TileSeries:
    """The series with only these optical bands, in this order."""
    optical = series.optical
    values = optical.values[:, [optical.bands.index(band) for band in bands]]
    return replace(series, optical=Acquisitions(values, optical.dates, bands))

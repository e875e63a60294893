"""What is hidden from a model and what is scored: the published test sample, and whole missing frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from restore_dit.config import DataConfig
from restore_dit.config.jobs import EvaluationConfig
from restore_dit.data.examples.cutting import size
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.data.examples.maker import ExampleMaker
from restore_dit.data.examples.normalisation import OPTICAL_CEILING, published_scale_to_reflectance
from restore_dit.data.randomness import generator
from restore_dit.data.store.stored_tile import StoredTile
from restore_dit.evaluation.baselines import BASELINES, fill
from restore_dit.evaluation.figures import series_figure, strip_figure, to_png
from restore_dit.evaluation.frames import FrameErrors, error_sums
from restore_dit.evaluation.metrics import PUBLISHED_SCALE, REFLECTANCE, SeriesScores, score_frames
from restore_dit.reconstruction.batch import sampling_options
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.reconstruct import reconstruct
from restore_dit.series import NO_DATA, REFLECTANCE_SCALE, days_since_origin

MODEL_NAME = "RESTORE-DiT"


@dataclass(frozen=True)
class Trial:
    """One series as a protocol shows it: `gaps` [n, H, W] are hidden, `scored` are the frames that count."""

    frames: NDArray[np.intp]
    gaps: NDArray[np.bool_]
    scored: NDArray[np.intp]


@dataclass
class TileScores:
    """A tile's scores by method, one entry a scale and trial; the errors of its scored frames that have missing pixels;
    its figures as PNG by name."""

    tile_id: str
    scores: dict[str, list[SeriesScores]] = field(default_factory=dict)
    frames: list[FrameErrors] = field(default_factory=list)
    missing_pixels: int = 0
    pixels: int = 0
    figures: dict[str, bytes] = field(default_factory=dict)


def trials(config: EvaluationConfig, maker: ExampleMaker, tile: StoredTile | DecodedTile) -> Iterator[Trial]:
    """`paper`: all clear frames, with the tile's own first cloud masks in order as gaps (spec section 3), all scored.
    `missing-frame`: the same frames with one of them hidden as a whole and nothing else, scored alone, for up to
    `hidden_frames` seeded choices."""
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
    """The model's own, with the evaluation's rule of which frames may be scored."""
    data = model.config.data
    return data if config.targets is None else data.model_copy(update={"targets": config.targets})


def evaluate_tile(model: Model, stored: StoredTile, config: EvaluationConfig, *, with_figures: bool) -> TileScores:
    """Scores of the model and of every baseline on one tile, on the published scale and in true reflectance."""
    bands = model.bands_of(stored.optical.bands, f"tile {stored.tile_id}")
    maker = ExampleMaker(data_of(model, config), bands, model.config.seed)
    series = stored.series()
    tile = DecodedTile(series)
    options = sampling_options(config.sampling)
    result = TileScores(stored.tile_id)
    for number, trial in enumerate(trials(config, maker, tile)):
        optical = tile.optical.decode(trial.frames, bands)
        unknown = maker.unknown(tile)[trial.frames] | (optical == NO_DATA).any(axis=1)
        gaps = trial.gaps | unknown
        dates = tile.optical.dates[trial.frames]
        published = np.clip(optical, 0, OPTICAL_CEILING).astype(np.float32) / OPTICAL_CEILING
        reflectance = optical.astype(np.float32) / REFLECTANCE_SCALE
        predictions = {name: fill(name, published, gaps, days_since_origin(dates)) for name in BASELINES}
        predictions[MODEL_NAME] = reconstruct(model, series, trial.frames, gaps, options)
        known, missing = ~unknown, gaps & ~unknown
        sums: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        shown: dict[str, NDArray[np.float32]] = {}
        for name, prediction in predictions.items():
            hidden = gaps[:, None]
            estimates = {
                PUBLISHED_SCALE: (published, np.where(hidden, prediction, published)),
                REFLECTANCE: (reflectance, np.where(hidden, published_scale_to_reflectance(prediction), reflectance)),
            }
            for scale, (target, estimate) in estimates.items():
                scores = score_frames(target, estimate, gaps, unknown, frames=trial.scored, scale_name=scale)
                result.scores.setdefault(name, []).append(scores)
            sums[name] = error_sums(*estimates[PUBLISHED_SCALE], missing)
            shown[name] = estimates[REFLECTANCE][1]
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
            )
            for frame in trial.scored
            if missing[frame].any()
        ]
        if with_figures and not result.figures:
            compared = {MODEL_NAME: shown[MODEL_NAME], "linear": shown["linear"]}
            frames = list(trial.scored) if config.protocol == "missing-frame" else None
            strips = strip_figure(
                reflectance, compared, gaps, dates, bands, target_cloud_mask=unknown, frames=frames, title=tile.tile_id
            )
            curves = series_figure(
                reflectance, compared, gaps, dates, bands, target_cloud_mask=unknown, title=tile.tile_id
            )
            result.figures = {f"{tile.tile_id}_strips.png": to_png(strips), f"{tile.tile_id}_ndvi.png": to_png(curves)}
    return result

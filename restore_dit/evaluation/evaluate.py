"""Evaluation of a model on a store: every test tile, the tables and the figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from restore_dit.config import RadarConfig
from restore_dit.config.jobs import EvaluationConfig
from restore_dit.data.examples.cutting import BOTH_TRACKS
from restore_dit.data.examples.plan import frames_of_part, split_tiles
from restore_dit.data.examples.targets import TARGET, decide_by_record
from restore_dit.data.items import OnOutcome, Outcome, Plan, RunReport
from restore_dit.data.loader import TileReader, tile_reader
from restore_dit.data.randomness import generator
from restore_dit.data.runner import run
from restore_dit.data.storage import locate, write_bytes_atomically
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from restore_dit.evaluation.frames import compare, coverage, frames_csv
from restore_dit.evaluation.metrics import average_scores
from restore_dit.evaluation.protocols import TileScores, data_of, evaluate_tile
from restore_dit.evaluation.report import Report, write_report
from restore_dit.reconstruction.batch import sampling_options
from restore_dit.reconstruction.model_directory import Model, load_model

Execute = Callable[[Plan[str, TileScores], int, OnOutcome], RunReport[TileScores]]
"""Carries out a plan with some workers, like `run`."""


@dataclass(frozen=True)
class TileEvaluator:
    """Scores tiles, with a second model `beside` the first if there is one. Picklable and self-contained: it carries
    the models, so that workers need no access to files of the process that created it."""

    model: Model
    reader: TileReader
    config: EvaluationConfig
    with_figures: frozenset[str]
    beside: Model | None = None

    def __call__(self, tile_ids: Sequence[str]) -> Iterator[Outcome[TileScores]]:
        """Yields the scores of one tile after another.

        Raises:
            UserError: a GPU is requested but this process sees none, or a tile cannot be read.
        """
        use_gpu = self.config.sampling.use_gpu
        model = self.model.on_device(use_gpu)
        beside = None if self.beside is None else self.beside.on_device(use_gpu)
        for tile_id in tile_ids:
            with_figures = tile_id in self.with_figures
            tile = self.reader(tile_id)
            yield Outcome(tile_id, evaluate_tile(model, tile, self.config, with_figures=with_figures, beside=beside))


def evaluate(
    config: EvaluationConfig, execute: Execute = run, warn: Callable[[str], object] = lambda line: None
) -> Report:
    """Scores the model, writes tables and figures to `config.output`, and returns the report.

    Args:
        config: what is evaluated, and how.
        execute: scores the tiles; with `config.workers`, `run` requires a prior `ray.init`.
        warn: called with one line if `part` is `all` and the model was trained on some of the scored tiles.

    Raises:
        UserError: the model or the store cannot be read, there is nothing to score, or a GPU is requested but missing.
    """
    model = load_model(config.model)
    store = TileStore.open(config.store)
    tile_ids = tiles_to_score(model, store, config)
    facts = {"tiles": str(len(tile_ids))}
    if config.part == "all":
        seen = seen_in_training(model, store, tile_ids)
        facts["seen in training"] = "unknown" if seen is None else f"{len(seen)} of {len(tile_ids)} tiles"
        if seen:
            names = ", ".join(seen[:3]) + (", …" if len(seen) > 3 else "")
            warn(
                f"part=all is meant for places unseen in training, but the model was trained on {len(seen)} of these "
                f"{len(tile_ids)} tiles ({names}): its scores say nothing about new places"
            )
    beside = None
    if config.beside is not None:
        beside = _second_model(config.beside, model, store, tile_ids, warn)
        _sampling(config, beside)  # before the first tile is scored
    data = data_of(model, config)
    if beside is not None:  # it may use another radar track
        data = data.model_copy(update={"radar": RadarConfig(track=BOTH_TRACKS)})
    reader = tile_reader(store, data, keep=1)
    work = TileEvaluator(model, reader, config, frozenset(tile_ids[: config.figures]), beside)
    plan = Plan(work, tile_ids, config.output, stays=True, use_gpu=config.sampling.use_gpu)

    def write_figures(outcome: Outcome[TileScores], done: int, total: int) -> None:
        for name, content in outcome.result.figures.items() if outcome.result else ():
            write_bytes_atomically(locate(config.output).join(name), content)

    scored = execute(plan, config.workers, write_figures)
    results = [scored.results[tile_id] for tile_id in sorted(scored.results)]
    report = to_report(config, model, results, facts, beside)
    write_report(report, config.output)
    frames = [frame for result in results for frame in result.frames]
    write_bytes_atomically(locate(config.output).join("frames.csv"), frames_csv(frames).encode())
    return report


def _second_model(
    place: str, model: Model, store: TileStore, tile_ids: Sequence[str], warn: Callable[[str], object]
) -> Model:
    """The model at `place`, checked to fill the bands that the first model fills on each tile."""
    beside = load_model(place)
    for tile_id in tile_ids:
        available = store.record(tile_id).optical.bands
        bands = set(model.bands_of(available, f"tile {tile_id}"))
        lacking = bands - set(beside.bands_of(sorted(bands), place))
        if lacking:
            raise UserError(
                f"{place}: does not fill {', '.join(sorted(lacking))} of tile {tile_id}, unlike the evaluated model"
            )
    seen = seen_in_training(beside, store, tile_ids)
    if seen:
        warn(
            f"{place} was trained on {len(seen)} of the {len(tile_ids)} tiles: its scores say nothing about new places"
        )
    return beside


def tiles_to_score(model: Model, store: TileStore, config: EvaluationConfig) -> list[str]:
    """The ids of the tiles to score: the test tiles of the model's own split, or all tiles, that have a target.

    Raises:
        UserError: no such tile, or bands or cloud masks are missing.
    """
    model.bands_of(store.manifest.bands, config.store)
    folds = {tile: record.fold for tile, record in store.manifest.tiles.items()}
    if config.part == "all":
        chosen = sorted(folds)
    else:
        chosen = list(split_tiles(folds, model.config.data.split, model.config.seed).part(config.part))
    chosen = [tile for tile in chosen if _has_target(store, model, config, tile)]
    if not chosen:
        raise UserError(
            f"{config.store}: no tile has a clear frame to score in part '{config.part}'; part=all scores every tile"
        )
    return chosen[: config.tiles]


def seen_in_training(model: Model, store: TileStore, tile_ids: Sequence[str]) -> list[str] | None:
    """Those of the given tiles that the model's training or validation read. None if unknown: the model does not list
    its training tiles, and the store is not the one named in its configuration."""
    if model.training_data is not None:
        return model.training_data.seen(store, tile_ids)
    if model.config.data.store != store.uri:
        return None
    folds = {tile: record.fold for tile, record in store.manifest.tiles.items()}
    split = split_tiles(folds, model.config.data.split, model.config.seed)
    return [tile_id for tile_id in tile_ids if tile_id in {*split.train, *split.validation}]


def _has_target(store: TileStore, model: Model, config: EvaluationConfig, tile_id: str) -> bool:
    """Whether a tile has a frame that may be scored, according to the manifest alone."""
    record = store.manifest.tiles[tile_id]
    where = f"{config.store}: tile {tile_id}"
    if record.clouds is None:
        raise UserError(f"{where} has no cloud masks; detect clouds first")
    data = data_of(model, config)
    clear = decide_by_record(data.targets, record, where) == TARGET
    return bool(frames_of_part(clear, config.part, data.split, model.config.seed, tile_id)[1].any())


def to_report(
    config: EvaluationConfig,
    model: Model,
    results: list[TileScores],
    facts: dict[str, str],
    beside: Model | None = None,
) -> Report:
    """The report on a model, a second one if given, and the baselines; `facts` describe the scored tiles."""
    rule = data_of(model, config).targets.model_dump(exclude_none=True)
    second = {}
    if beside is not None:
        second = {"beside": f"{config.beside}", "its sampling": _sampling(config, beside)}
    facts = {
        "model": config.model,
        "sampling": _sampling(config, model),
        **second,
        "store": config.store,
        "part": config.part,
        **facts,
        "targets": ", ".join(f"{key}={value}" for key, value in rule.items()),
    }
    return summarise(results, config, facts)


def _sampling(config: EvaluationConfig, model: Model) -> str:
    """How a model is sampled, in words.

    Raises:
        UserError: the sampler does not fit the model.
    """
    options = sampling_options(config.sampling)
    sampler, steps = options.solver(model)
    calibrated = ", calibrated on each series" if options.calibrates(model) else ""
    replaced = ", suspect pixels replaced" if options.replace_suspect else ""
    return f"{sampler}, {steps} steps, seed {config.sampling.seed}, {config.sampling.precision}{calibrated}{replaced}"


def summarise(results: list[TileScores], config: EvaluationConfig, facts: dict[str, str]) -> Report:
    """Averages the scores over all series, by method and scale, and compares the methods."""
    methods = {
        name: {
            scale: average_scores([s for result in results for s in result.scores[name] if s.scale_name == scale])
            for scale in {s.scale_name for s in scores}
        }
        for name, scores in results[0].scores.items()
    }
    pixels = sum(result.pixels for result in results)
    report = Report(
        title=f"Protocol {config.protocol}",
        methods=methods,
        missing_share=sum(result.missing_pixels for result in results) / max(pixels, 1),
        facts=facts,
    )
    best = report.best_baseline
    if best is None:  # no pixel is missing
        return report
    frames = [frame for result in results for frame in result.frames]
    return replace(
        report,
        facts={**report.facts, "best baseline": best, "frames": f"{len(frames)} with missing pixels"},
        coverage=coverage(frames),
        comparisons=compare(frames, report.missing_psnr, best, generator(config.sampling.seed, "resampled frames")),
    )

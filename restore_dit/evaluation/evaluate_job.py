"""The tiles of an evaluation on a cluster: one actor of Ray Data a worker, each with the model loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import ray.data

from restore_dit.config.jobs import EvaluationConfig
from restore_dit.data.loader import tile_reader
from restore_dit.data.store.tile_store import TileStore
from restore_dit.evaluation.protocols import TileScores, evaluate_tile
from restore_dit.reconstruction.model_directory import load_model


class TileEvaluator:
    """Callable of `map`: `{"tile_id": …}` → its scores."""

    def __init__(self, config: EvaluationConfig, with_figures: frozenset[str]) -> None:
        self.config = config
        self.with_figures = with_figures
        self.model = load_model(config.model).on_device(config.sampling.use_gpu)
        self.reader = tile_reader(TileStore.open(config.store), self.model.config.data, keep=1)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        tile_id = str(row["tile_id"])
        scores = evaluate_tile(self.model, self.reader(tile_id), self.config, with_figures=tile_id in self.with_figures)
        return {"scores": scores}


def scores_on_cluster(
    config: EvaluationConfig, tile_ids: list[str], with_figures: frozenset[str]
) -> Iterator[TileScores]:
    """Scores in whatever order the actors finish."""
    dataset = ray.data.from_items([{"tile_id": tile} for tile in tile_ids], override_num_blocks=len(tile_ids)).map(
        cast(Any, TileEvaluator),  # Ray Data takes classes too; its annotation does not say so
        fn_constructor_args=(config, with_figures),
        concurrency=min(config.workers, len(tile_ids)),
        num_gpus=1 if config.sampling.use_gpu else 0,
    )
    for row in dataset.iter_rows():
        yield row["scores"]

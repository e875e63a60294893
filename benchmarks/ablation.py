"""Ablation study of the pixel network: its scores on real sites when trained without each part.

`python -m benchmarks.ablation STORE SITE … --epochs 1 --seeds 0 1` trains `default` on the tile store STORE, once
complete and once without each part, scores it on the stores SITE with all their clear dates, and prints a table and, as
the last line, JSON. The first row is the gain of the complete network over the best classical method, the others are
differences from it, in dB (means over sites and seeds). The table also has the training time in seconds.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from rich.console import Console

from restore_dit.config import load
from restore_dit.config.jobs import EvaluationConfig
from restore_dit.data.items import Plan
from restore_dit.data.loader import tile_reader
from restore_dit.data.runner import run
from restore_dit.data.store.tile_store import TileStore
from restore_dit.diffusion import objective
from restore_dit.evaluation.evaluate import TileEvaluator, summarise, tiles_to_score
from restore_dit.evaluation.protocols import MODEL_NAME, data_of
from restore_dit.model import pixel_denoiser
from restore_dit.model.evidence import Evidence
from restore_dit.reconstruction.model_directory import load_model
from restore_dit.training.run import run_training

PROTOCOLS = ("paper", "missing-frame")


@dataclass(frozen=True)
class Part:
    """A part to leave out: `evidence` changes the inputs and candidates of the network, `settings` the configuration of
    the run, and `loss` names a constant of the loss and its replacement value."""

    evidence: Callable[[Evidence], Evidence] = lambda evidence: evidence
    settings: tuple[str, ...] = ()
    loss: tuple[str, float] | None = None


def _without_offsets(evidence: Evidence) -> Evidence:
    none, unseen = torch.zeros_like(evidence.kriged), torch.zeros_like(evidence.spread)
    return replace(
        evidence, frame_offset=none, wide_offset=none, near_offset=none, wide_weight=unseen, near_weight=unseen
    )


def _kriging_alone(evidence: Evidence) -> Evidence:
    kriged, statistics = evidence.kriged, evidence.departure_statistics.clone()
    statistics[:, :, statistics.shape[2] // 2 :] = 0  # how linear interpolation and the smoother kriging compare
    return replace(evidence, smooth=kriged, linear=kriged, before=kriged, after=kriged, departure_statistics=statistics)


def _without_smooth(evidence: Evidence) -> Evidence:
    statistics = evidence.departure_statistics.clone()
    statistics[:, :, 3 * statistics.shape[2] // 4 :] = 0
    return replace(evidence, smooth=evidence.kriged, departure_statistics=statistics)


def _without(name: str) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, **{name: torch.zeros_like(getattr(evidence, name))})


PARTS: dict[str, Part] = {
    "nothing": Part(),
    "what visible pixels of the date say": Part(evidence=_without_offsets),
    "other ways to interpolate": Part(evidence=_kriging_alone),
    "the smoother kriging": Part(evidence=_without_smooth),
    "the departures of the neighbouring dates": Part(evidence=_without("departure")),
    "the statistics of departures": Part(evidence=_without("departure_statistics")),
    "radar": Part(evidence=_without("radar")),
    "neighbours by rank (all dates seen)": Part(settings=("model.nearest=64",)),
    "the logarithm of each date's error in the loss": Part(loss=("_OF_FRAMES", 0.0)),
    "the likelihood in the loss": Part(loss=("_OF_LIKELIHOOD", 0.0)),
    "bands, brightness, length, pixel size that vary": Part(
        settings=("data.band_dropout=0", "data.gain=0", "data.least_kept=1", "data.coarser=0")
    ),
    "true masks as targets": Part(settings=("data.truly_clear=false",)),
    "a second layer": Part(settings=("model.depth=1",)),
    "a second member": Part(settings=("model.members=1",)),
}


@contextmanager
def left_out(part: Part) -> Iterator[None]:
    """Leaves a part out of the network, in training and in use."""
    whole = pixel_denoiser.gather_evidence
    with ExitStack() as patches:
        patches.enter_context(
            mock.patch.object(pixel_denoiser, "gather_evidence", lambda *inputs: part.evidence(whole(*inputs)))
        )
        if part.loss is not None:
            patches.enter_context(mock.patch.object(objective, *part.loss))
        yield


def score(model: str, site: str, protocol: str, frames: int) -> float:
    """Gain of a model over the best classical method in dB, without calibration on the series, on at most so many
    hidden frames."""
    loaded, store = load_model(model), TileStore.open(site)
    chosen = {"store": site, "protocol": protocol, "part": "all", "hidden_frames": frames}
    config = EvaluationConfig.model_validate(chosen | {"sampling": {"calibrate": False}})
    tile_ids = tiles_to_score(loaded, store, config)
    work = TileEvaluator(loaded, tile_reader(store, data_of(loaded, config), keep=1), config, frozenset())
    scores = list(run(Plan(work, tile_ids, config.output)).results.values())
    return summarise(scores, config, {}).comparisons[MODEL_NAME].gain


def train_and_score(part: Part, seed: int, given: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Trains a network without the part; returns the seconds of training and, by protocol, the mean gain over the
    sites."""
    settings = [
        f"data.store={given.store}", f"output={folder}", f"name=run-{time.monotonic_ns()}", f"seed={seed}",
        f"training.epochs={given.epochs}", "training.validate_every=100000", "training.save_every=100000",
        *given.settings, *part.settings,
    ]  # fmt: skip
    with left_out(part):
        begin = time.perf_counter()
        result = run_training(load("default", settings), Console(file=io.StringIO()))
        seconds = time.perf_counter() - begin
        gains = {
            protocol: statistics.fmean(score(result.model, site, protocol, given.frames) for site in given.sites)
            for protocol in PROTOCOLS
        }
    return {"seconds": seconds, "steps": result.step} | gains


def main(words: Sequence[str] | None = None) -> int:
    """Trains and scores all variants and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", help="simulated tiles to train on")
    parser.add_argument("sites", nargs="+", metavar="SITE", help="tile stores to score on")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--frames", type=int, default=60, help="hidden frames of a site to score, at most")
    parser.add_argument("--only", choices=[*PARTS], action="append", help="a part to leave out; can be repeated")
    parser.add_argument(
        "--settings", nargs="*", default=[], metavar="key=value", help="changes to the run's configuration"
    )
    given = parser.parse_args(words)
    rows = []
    print(f"{'without':56} {'seconds':>8} " + " ".join(f"{protocol:>14}" for protocol in PROTOCOLS))
    with tempfile.TemporaryDirectory() as folder:
        for name in ["nothing", *(given.only or [part for part in PARTS if part != "nothing"])]:
            found = [train_and_score(PARTS[name], seed, given, str(Path(folder))) for seed in given.seeds]
            row: dict[str, Any] = {"without": name, "runs": found}
            rows.append(row)
            for column in ("seconds", *PROTOCOLS):
                row[column] = statistics.fmean(run[column] for run in found)
            shown = (row[column] - (rows[0][column] if len(rows) > 1 else 0) for column in PROTOCOLS)
            lost = " ".join(f"{value:+14.2f}" for value in shown)
            print(f"{name:56} {row['seconds']:8.0f} {lost}", flush=True)
    print(json.dumps({"benchmark": "ablation", "epochs": given.epochs, "seeds": given.seeds, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

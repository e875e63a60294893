"""Ablation study of the pixel network: its scores on real sites when trained without each part.

`python -m benchmarks.ablation STORE SITE … --epochs 1 --seeds 0 1` trains `default` on the tile store STORE, once
complete and once without each part, scores it on the stores SITE with all their clear dates, and prints a table and, as
the last line, JSON. The first row is the gain of the complete network over the best classical method, the others are
differences from it with the same seed, in dB (means over sites and seeds). The table also has the processor time of
training in seconds. With `--folder`, a run that was interrupted goes on where it was, and another scores the same
networks again.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from rich.console import Console

from restore_dit.config import load
from restore_dit.config.jobs import EvaluationConfig
from restore_dit.data.items import Plan
from restore_dit.data.loader import tile_reader
from restore_dit.data.runner import run
from restore_dit.data.storage import write_bytes_atomically
from restore_dit.data.store.tile_store import TileStore
from restore_dit.diffusion import objective
from restore_dit.errors import UserError
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


class Trained(NamedTuple):
    """A trained network: its model directory, the processor seconds of its training, and the steps."""

    model: str
    seconds: float
    steps: int


def train(name: str, seed: int, given: argparse.Namespace, folder: Path) -> Trained:
    """The network that is trained without this part; one that an earlier call with the same folder has trained is not
    trained again."""
    run_name = f"{re.sub('[^a-z]+', '-', name.lower())}-{seed}"
    record = folder / run_name / "trained.json"
    settings = [
        f"data.store={given.store}", f"output={folder}", f"name={run_name}", f"seed={seed}",
        f"training.epochs={given.epochs}", "training.validate_every=100000", "training.save_every=100000",
        *given.settings, *PARTS[name].settings,
    ]  # fmt: skip
    if record.exists():
        found = json.loads(record.read_text())
        if found.pop("settings", None) != settings:
            raise UserError(f"{record.parent}: was trained with other settings; use another --folder", status=2)
        return Trained(**found)
    begin = time.process_time()
    result = run_training(load("default", settings), Console(file=io.StringIO()))
    trained = Trained(result.model, time.process_time() - begin, result.step)
    write_bytes_atomically(record, json.dumps(trained._asdict() | {"settings": settings}).encode())
    return trained


def train_and_score(name: str, seed: int, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Trains a network without the part; returns the processor seconds of training and, by protocol, the mean gain over
    the sites."""
    with left_out(PARTS[name]):
        trained = train(name, seed, given, folder)
        gains = {
            protocol: statistics.fmean(score(trained.model, site, protocol, given.frames) for site in given.sites)
            for protocol in PROTOCOLS
        }
    return {"seed": seed, "seconds": trained.seconds, "steps": trained.steps} | gains


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
    parser.add_argument("--folder", type=Path, help="keep the trained networks here, and use those that are there")
    given = parser.parse_args(words)
    rows: list[dict[str, Any]] = []
    headers = ["without", "CPU seconds", *(f"`{protocol}`" for protocol in PROTOCOLS)]
    print("| " + " | ".join(headers) + " |\n|---|---:|---:|---:|")
    with ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ["nothing", *(given.only or [part for part in PARTS if part != "nothing"])]:
            runs = [train_and_score(name, seed, given, folder) for seed in given.seeds]
            rows.append({"without": name, "runs": runs})
            print(_line(rows[-1], rows[0]), flush=True)
    print(json.dumps({"benchmark": "ablation", "epochs": given.epochs, "seeds": given.seeds, "rows": rows}))
    return 0


def _line(row: dict[str, Any], complete: dict[str, Any]) -> str:
    """A row of the table: means over the seeds and, in brackets, the smallest and the largest of several."""
    cells = [f"{statistics.fmean(run['seconds'] for run in row['runs']):.0f}"]
    for protocol in PROTOCOLS:
        values = [run[protocol] for run in row["runs"]]
        if row is not complete:
            values = [value - whole[protocol] for value, whole in zip(values, complete["runs"], strict=True)]
        span = f" ({min(values):+.2f} to {max(values):+.2f})" if len(values) > 1 else ""
        cells.append(f"{statistics.fmean(values):+.2f}{span}")
    return f"| {row['without']} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"{error}")

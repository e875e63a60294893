"""Cloud masks: detect clouds, train a network, compare masks."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import TYPE_CHECKING

from restore_dit.commands.arguments import command, group, overrides
from restore_dit.commands.dry_run import show
from restore_dit.errors import UserError

if TYPE_CHECKING:
    from restore_dit.commands.arguments import Commands

FRAMES_OF_A_PICTURE = 24
"""Acquisitions with the lowest agreement that are kept; the worst are drawn, and all determine the stretch."""


def add_to(commands: Commands) -> None:
    """`clouds detect`, `clouds train`, `clouds compare`."""
    clouds = group(commands, "clouds", "Detect clouds and shadows, train a network for it, compare masks.")
    parser = command(
        clouds,
        "clouds detect",
        clouds_detect,
        "Compute cloud and shadow masks for the tiles of a store.",
        "clouds detect stores/site --weights models/clouds",
    )
    parser.add_argument("store", help="tile store")
    parser.add_argument(
        "--method",
        choices=("network", "rule", "source", "s2cloudless"),
        help="network: requires --weights; rule: physical thresholds; source, s2cloudless: masks that came with the "
        "tiles (default: network with --weights, else rule)",
    )
    parser.add_argument(
        "--weights",
        metavar="W",
        help="path or URI of a model directory from `clouds train`, or of a published state dict",
    )
    parser.add_argument("--tiles", metavar="A,B", help="only these tiles (default: all)")
    parser.add_argument(
        "--workers", type=int, help="number of Ray actors (default: one per CPU); 0: run in this process"
    )
    overrides(parser)

    parser = command(
        clouds,
        "clouds train",
        clouds_train,
        "Train a cloud-detection network. Ctrl-C saves the state; the same command resumes.",
        "clouds train stores/labelled stores/sim --output models/clouds",
    )
    parser.add_argument("stores", nargs="+", metavar="store", help="tile store with masks to train on")
    parser.add_argument("--output", default="models/clouds", help="model directory to write (default: models/clouds)")
    overrides(parser)

    parser = command(
        clouds,
        "clouds compare",
        clouds_compare,
        "Score the masks of one method against those of another.",
        "clouds compare stores/site --masks rule --against source",
    )
    parser.add_argument("store", help="tile store")
    parser.add_argument(
        "--masks", metavar="METHOD", help="masks to score: network, rule, … (default: the masks in use)"
    )
    parser.add_argument("--against", metavar="METHOD", default="source", help="reference masks (default: source)")
    parser.add_argument("--tiles", metavar="A,B", help="only these tiles (default: all)")
    parser.add_argument("--picture", metavar="FILE.png", help="draw the acquisitions with the lowest agreement")
    parser.add_argument("--json", action="store_true", help="print JSON")


def clouds_detect(given: argparse.Namespace) -> int:
    from jobs.clouds import run
    from restore_dit.config.clouds import DetectionConfig
    from restore_dit.config.loading import load_section
    from restore_dit.program import console

    options = {
        name: value for name in ("method", "weights", "tiles", "workers") if (value := getattr(given, name)) is not None
    }
    if "tiles" in options:
        options["tiles"] = options["tiles"].split(",")
    config = load_section(DetectionConfig, given.overrides, store=given.store, **options)
    return show(config) if given.dry_run else run(config, console())


def clouds_train(given: argparse.Namespace) -> int:
    from jobs.train_clouds import run
    from restore_dit.config.cloud_training import CloudTrainingConfig
    from restore_dit.config.loading import load_section
    from restore_dit.program import console

    config = load_section(CloudTrainingConfig, given.overrides, stores=given.stores, output=given.output)
    return show(config) if given.dry_run else run(config, console())


def clouds_compare(given: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from restore_dit.clouds.comparison import compare_masks, comparison_text
    from restore_dit.clouds.score_pictures import examples_picture
    from restore_dit.clouds.scores import summary
    from restore_dit.data.storage import write_bytes_atomically
    from restore_dit.data.store.tile_store import TileStore

    if given.picture and not given.picture.endswith(".png"):
        raise UserError(f"--picture {given.picture}: the file name must end in .png", status=2)
    store = TileStore.open(given.store)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("comparing", total=None)
        comparison = compare_masks(
            store,
            given.masks,
            given.against,
            given.tiles.split(",") if given.tiles else (),
            keep_frames=FRAMES_OF_A_PICTURE if given.picture else 0,
            on_tile=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if given.picture:
        title = f"{store.location.name}: masks {given.masks or 'in use'} against {given.against}"
        write_bytes_atomically(given.picture, examples_picture(comparison.frames, title))
        print(f"picture: {given.picture}", file=sys.stderr)
    if given.json:
        scores = {name: None if math.isnan(value) else value for name, value in summary(comparison.counts).items()}
        tree = {"counts": comparison.counts.tolist(), "scores": scores, "tiles": len(comparison.tiles)}
        print(json.dumps(tree, indent=1))
    else:
        print(comparison_text(comparison, given.masks or "in use", given.against))
    return 0

"""Clouds: train a network, detect, compare masks."""

from __future__ import annotations

import argparse
import json
import math
import sys

from restore_dit.commands.dry_run import show
from restore_dit.errors import UserError

FRAMES_OF_A_PICTURE = 24
"""Of these, which agree least, the worst are shown; the others share their stretch."""


def clouds_detect(given: argparse.Namespace) -> int:
    from jobs.clouds import run
    from jobs.entry import console
    from restore_dit.config.clouds import DetectionConfig
    from restore_dit.config.loading import load_section

    options = {
        name: value for name in ("method", "weights", "tiles", "workers") if (value := getattr(given, name)) is not None
    }
    if "tiles" in options:
        options["tiles"] = options["tiles"].split(",")
    config = load_section(DetectionConfig, given.overrides, store=given.store, **options)
    return show(config) if given.dry_run else run(config, console())


def clouds_train(given: argparse.Namespace) -> int:
    from jobs.entry import console
    from jobs.train_clouds import run
    from restore_dit.config.cloud_training import CloudTrainingConfig
    from restore_dit.config.loading import load_section

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
        raise UserError(f"--picture {given.picture}: a picture's name ends in .png", status=2)
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

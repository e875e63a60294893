"""Clouds: train a network, detect, compare masks."""

from __future__ import annotations

import argparse
import json
import math

from restore_dit.commands.dry_run import show


def clouds_detect(given: argparse.Namespace) -> int:
    from jobs.clouds import run
    from jobs.entry import console
    from restore_dit.config.clouds import DetectionConfig
    from restore_dit.config.loading import load_section

    options = {name: value for name in ("weights", "tiles", "workers") if (value := getattr(given, name)) is not None}
    if "tiles" in options:
        options["tiles"] = options["tiles"].split(",")
    method = given.method or ("network" if given.weights else "rule")
    config = load_section(DetectionConfig, given.overrides, store=given.store, method=method, **options)
    return show(config) if given.dry_run else run(config, console())


def clouds_train(given: argparse.Namespace) -> int:
    from jobs.train_clouds import run

    from jobs.entry import console
    from restore_dit.config.cloud_training import CloudTrainingConfig
    from restore_dit.config.loading import load_section

    config = load_section(CloudTrainingConfig, given.overrides, stores=given.stores, output=given.output)
    return show(config) if given.dry_run else run(config, console())


def clouds_compare(given: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from restore_dit.clouds.comparison import compare_masks, comparison_text
    from restore_dit.clouds.scores import summary
    from restore_dit.data.store.tile_store import TileStore

    store = TileStore.open(given.store)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("comparing", total=None)
        comparison = compare_masks(
            store,
            given.masks,
            given.against,
            given.tiles.split(",") if given.tiles else (),
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    if given.json:
        scores = {name: None if math.isnan(value) else value for name, value in summary(comparison.counts).items()}
        tree = {"counts": comparison.counts.tolist(), "scores": scores, "tiles": len(comparison.tiles)}
        print(json.dumps(tree, indent=1))
    else:
        print(comparison_text(comparison, given.masks or "in use", given.against))
    return 0

"""Commands that report on results: scores of cloud masks, and the trials of a sweep."""

from __future__ import annotations

import json
import math
import sys

import click

from restore_dit.command_line import command
from restore_dit.errors import UserError

FRAMES_OF_A_PICTURE = 24
"""Acquisitions with the lowest agreement that are kept; the worst are drawn, and all determine the stretch."""


@command("compare-clouds", example="stores/site --masks rule --against source")
@click.argument("store", help="path or URI of the tile store")
@click.option(
    "--masks",
    metavar="NAME",
    help="masks to score: a method (network, rule, csmask, …) or, with several sets of one method, the name of a set "
    "(clouds-rule-1a2b3c4d), which the error message lists (default: the masks in use)",
)
@click.option("--against", metavar="NAME", default="source", show_default=True, help="reference masks, in the same way")
@click.option("--tiles", metavar="A,B", help="only these tiles (default: all)")
@click.option("--picture", metavar="FILE.png", help="draw the acquisitions with the lowest agreement")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def compare_clouds(
    store: str, masks: str | None, against: str, tiles: str | None, picture: str | None, as_json: bool
) -> int:
    """Score one set of cloud masks against another."""
    from rich.console import Console
    from rich.progress import Progress

    from restore_dit.clouds.comparison import compare_masks, comparison_text
    from restore_dit.clouds.score_pictures import examples_picture
    from restore_dit.clouds.scores import summary
    from restore_dit.data.storage import write_bytes_atomically
    from restore_dit.data.store.tile_store import TileStore

    if picture and not picture.endswith(".png"):
        raise UserError(f"--picture {picture}: the file name must end in .png", status=2)
    tile_store = TileStore.open(store)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("comparing", total=None)
        comparison = compare_masks(
            tile_store,
            masks,
            against,
            tiles.split(",") if tiles else (),
            keep_frames=FRAMES_OF_A_PICTURE if picture else 0,
            on_tile=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if picture:
        title = f"{tile_store.location.name}: masks {masks or 'in use'} against {against}"
        write_bytes_atomically(picture, examples_picture(comparison.frames, title))
        print(f"picture: {picture}", file=sys.stderr)
    if as_json:
        scores = {name: None if math.isnan(value) else value for name, value in summary(comparison.counts).items()}
        tree = {
            "masks": sorted(comparison.layers),
            "counts": comparison.counts.tolist(),
            "scores": scores,
            "tiles": len(comparison.tiles),
        }
        print(json.dumps(tree, indent=1))
    else:
        print(comparison_text(comparison, masks or "in use", against))
    return 0


@command("sweep-report", example="sweeps/first")
@click.argument("sweep", help="path or URI of the sweep's folder")
def sweep_report(sweep: str) -> int:
    """Regenerate the report of a sweep from its folder."""
    from restore_dit.data.storage import locate
    from tuning.records import SweepFolder
    from tuning.report import write_sweep_report

    page = write_sweep_report(SweepFolder(locate(sweep)))
    print(f"report: {page.uri}")
    return 0

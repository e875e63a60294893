"""The endpoint on this machine or a cluster."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from restore_dit.commands.arguments import command, overrides
from restore_dit.commands.dry_run import show

if TYPE_CHECKING:
    from restore_dit.commands.arguments import Commands


def add_to(commands: Commands) -> None:
    """`serve`."""
    parser = command(
        commands,
        "serve",
        serve,
        "Answer reconstructions over HTTP until Ctrl-C.",
        "serve runs/site/model port=8000",
    )
    parser.add_argument("models", help="model directory, or a folder of such")
    overrides(parser)


def serve(given: argparse.Namespace) -> int:
    from jobs.entry import console
    from restore_dit.config.loading import load_section
    from serving.config import ServingConfig

    config = load_section(ServingConfig, given.overrides, models=given.models)
    if given.dry_run:
        return show(config)
    from serving.run import run

    return run(config, console())

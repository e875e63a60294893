"""Run the endpoint on this machine or on a cluster."""

from __future__ import annotations

import argparse
from pathlib import Path
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
        "Serve reconstructions over HTTP until Ctrl-C.",
        "serve runs/site/model port=8000",
    )
    parser.add_argument(
        "models",
        nargs="?",
        help="model directory, or a folder of model directories (default: as configured, else the shipped model)",
    )
    parser.add_argument("--config", metavar="F", type=Path, help="YAML file, which is read again on SIGHUP")
    overrides(parser)


def serve(given: argparse.Namespace) -> int:
    from restore_dit.config.loading import load_section
    from restore_dit.program import console
    from serving.config import ServingConfig

    def read() -> ServingConfig:
        models = {} if given.models is None else {"models": given.models}
        return load_section(ServingConfig, given.overrides, given.config, **models)

    if given.dry_run:
        return show(read())
    from serving.run import run

    return run(read, console())

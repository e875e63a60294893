"""Run the endpoint on this machine or on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from restore_dit.command_line import SettingsCommand, show
from restore_dit.config.loading import load_section
from restore_dit.program import console
from serving.config import ServingConfig


def _serve(config: Path | None, dry_run: bool, overrides: Sequence[str]) -> int:
    def read() -> ServingConfig:
        return load_section(ServingConfig, overrides, config)

    if dry_run:
        return show(read())
    from serving.run import run

    return run(read, console())


serve = SettingsCommand(
    "serve",
    ServingConfig,
    ("models",),
    defaults=ServingConfig,
    callback=_serve,
    help="Serve reconstructions over HTTP until Ctrl-C.",
    example="runs/site/model port=8000",
    params=[
        click.Option(["--config"], metavar="FILE", type=Path, help="YAML file, which is read again on SIGHUP"),
        click.Option(["--dry-run"], is_flag=True, help="print the resolved configuration and exit"),
    ],
)

"""`restore-dit …`: puts the commands together. Each module of `restore_dit.commands` declares its own in `add_to`."""

from __future__ import annotations

import argparse
import sys

from restore_dit import __version__
from restore_dit.commands import clouds, cluster, data, inspect, models, quickstart, serve, submit, tune
from restore_dit.commands.arguments import settle

MODULES = (data, inspect, clouds, models, tune, serve, cluster, submit, quickstart)
"""In the order in which `--help` lists their commands."""


def main(argv: list[str] | None = None) -> int:
    """Entry point; the exit status: 0, 1 (failed), 2 (bad usage) or 130 (interrupted)."""
    from jobs.entry import exit_status

    top = parser()
    given, rest = top.parse_known_args(argv)
    settle(top, given, rest)
    return exit_status(lambda: given.command(given), f"restore-dit {given.name}")


def parser() -> argparse.ArgumentParser:
    """All commands and their arguments."""
    top = argparse.ArgumentParser(
        prog="restore-dit",
        description="Gap-free Sentinel-2 series from what is visible, the radar series and the dates.",
        epilog="restore-dit COMMAND --help explains a command with an example.",
    )
    top.add_argument("--version", action="version", version=f"restore-dit {__version__}")
    top.set_defaults(main=main)  # quickstart runs other commands
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in MODULES:
        module.add_to(commands)
    return top


if __name__ == "__main__":
    sys.exit(main())
